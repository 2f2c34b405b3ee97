"""The recipe of the built-in model, as commands.

    python -m sightline.data.training prepare  --work DIR --flickr8k-images DIR \\
        --flickr8k-captions FILE --flickr8k-splits DIR --clothing DIR --photos DIR --scenes 12000
    python -m sightline.data.training features --work DIR --efficientnet FILE.pth
    python -m sightline.data.training texts    --work DIR --wordnet DIR --wnids FILE \\
        --detic DIR --sentence-encoder DIR
    python -m sightline.data.training train    --work DIR --efficientnet FILE.pth
    python -m sightline.data.training order    --work DIR --efficientnet FILE.pth
    python -m sightline.data.training export   --work DIR --efficientnet FILE.pth --to data/builtin

Every command can be interrupted and started again; it goes on where it was. Where the data comes
from, and what may be done with it, is in ``data/builtin/README.md``. Held-out scenes, Flickr8k's
test split, Tiny ImageNet's validation set and ImageNet's sample photos are never read here.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sightline.data.training import features, prepare, teachers, vocabulary, wordnet
from sightline.data.training.export import export
from sightline.data.training.network import DIMENSION, load_efficientnet
from sightline.data.training.train import OrderTraining, Run, Training, all_prepared, log

DEV_SCENES = 1_500
VIEWS = {"flickr8k": 6, "scenes": 2}
"""Views of each image; one, the whole image, for the other sources."""


def run_prepare(options: argparse.Namespace) -> None:
    """Decode and render what is named."""
    work = options.work
    if options.flickr8k_images:
        for split, name in (("train", "flickr8k"), ("dev", "flickr8k_dev")):
            prepare.flickr8k(
                work,
                name,
                images=options.flickr8k_images,
                captions_file=options.flickr8k_captions,
                split=options.flickr8k_splits / f"flickr8k_split_{split}.txt",
            )
    if options.clothing:
        prepare.clothing(work, options.clothing)
    if options.photos:
        prepare.photos(work, options.photos)
    if options.scenes:
        prepare.scenes(work, "scenes", first=0, count=options.scenes, workers=options.workers)
        count = min(DEV_SCENES, options.scenes)
        first = prepare.DEV_SCENES
        prepare.scenes(work, "scenes_dev", first=first, count=count, workers=options.workers)


def run_features(options: argparse.Namespace) -> None:
    """Views of every prepared source through the locked tower."""
    tower, _, _ = load_efficientnet(options.efficientnet, width=options.width, depth=options.depth)
    for name in all_prepared(options.work):
        augmentation = features.SCENE if name.startswith("scenes") else features.PHOTO
        count = VIEWS.get(name, 1)
        features.cache(options.work, name, tower, count=count, augmentation=augmentation)
        log.info("features of %s are cached", name)


def run_texts(options: argparse.Namespace) -> None:
    """Names, vocabulary and the teachers' vectors."""
    work: Path = options.work
    nouns, counts = wordnet.read_nouns(options.wordnet), wordnet.read_counts(options.wordnet)
    names = teachers.class_names(nouns, options.wnids.read_text(encoding="utf-8").split())
    names.save(work / "names.json")
    synsets = wordnet.concrete(nouns, counts)
    clip, vectors = teachers.clip_names(options.detic)
    (work / "clip_names.json").write_text(json.dumps(clip), encoding="utf-8")
    np.save(work / "clip_names.npy", vectors)
    _, captions = prepare.load(work, "flickr8k")
    _, facts = prepare.load(work, "scenes")
    scenes = [fact["captions"] + fact["contrasts"] for fact in facts]
    words = teachers.word_counts(captions, scenes, names, clip, synsets, counts)
    tokenizer = vocabulary.build(words, work / "vocab.txt")
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    vectors = teachers.word_vectors(options.sentence_encoder, pieces, DIMENSION)
    np.save(work / "words.npy", vectors)
    defined = teachers.definitions(nouns, names.wnids, synsets)
    (work / "definitions.json").write_text(json.dumps(defined), encoding="utf-8")
    texts = teachers.teacher_texts(captions, names, clip, synsets, counts, defined["classes"])
    (work / "sentences.json").write_text(json.dumps(texts), encoding="utf-8")
    np.save(work / "sentences.npy", teachers.sentence_vectors(options.sentence_encoder, texts))


def run_of(kind: type[Run], options: argparse.Namespace, start: str | None = None) -> Run:
    """A run of this folder; ``start`` is the run whose weights it begins with."""
    _, weight, bias = load_efficientnet(
        options.efficientnet, width=options.width, depth=options.depth
    )
    held_out = options.held_out.read_text(encoding="utf-8").split() if options.held_out else None
    return kind(
        options.work,
        (weight, bias),
        name=options.name,
        steps=options.steps,
        start=start,
        held_out=held_out,
    )


def run_train(options: argparse.Namespace) -> None:
    """Everything but the transformer."""
    run = run_of(Training, options)
    run.run()
    log.info("dev: %s", run.evaluate())


def run_order(options: argparse.Namespace) -> None:
    """The transformer."""
    run = run_of(OrderTraining, options, options.start)
    run.run()
    log.info("dev: %s", run.evaluate())


def run_export(options: argparse.Namespace) -> None:
    """Write a run as the model's folder."""
    tower, _, _ = load_efficientnet(options.efficientnet, width=options.width, depth=options.depth)
    state = run_of(OrderTraining, options, options.start).exported(tower)
    tokenizer = vocabulary.load(options.work / "vocab.txt")
    export(options.to, state, tokenizer, width=options.width, depth=options.depth)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(
        prog="python -m sightline.data.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text)
        added.set_defaults(run=run)
        added.add_argument("--work", type=Path, required=True, help="folder of everything made")
        return added

    get = command("prepare", run_prepare, "decode the photos and render the scenes")
    get.add_argument("--flickr8k-images", type=Path, help="folder of the photos")
    get.add_argument("--flickr8k-captions", type=Path, help="Flickr8k.token.txt")
    get.add_argument("--flickr8k-splits", type=Path, help="folder of flickr8k_split_*.txt")
    get.add_argument("--clothing", type=Path, help="folder with images.csv and images/")
    get.add_argument("--photos", type=Path, help="folder of JPEG files without captions")
    get.add_argument("--scenes", type=int, default=0, help="how many scenes to render")
    get.add_argument("--workers", type=int, default=2)

    see = command("features", run_features, "run the locked image tower over random views")
    say = command("texts", run_texts, "make the vocabulary, the names and the teachers' vectors")
    say.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    say.add_argument("--wnids", type=Path, required=True, help="the classifier's WordNet ids")
    say.add_argument("--detic", type=Path, required=True, help="checkout of Detic")
    say.add_argument("--sentence-encoder", type=Path, required=True, help="all-MiniLM-L6-v2")

    learn = command("train", run_train, "train the head and the bag of the text tower")
    relate = command("order", run_order, "train the transformer, which reads the order of words")
    out = command("export", run_export, "write the model as a folder")
    for each, name, steps in ((learn, "train", 400), (relate, "order", 250), (out, "order", 0)):
        each.add_argument("--name", default=name, help="of the run")
        each.add_argument("--held-out", type=Path, help="WordNet ids whose names are not taught")
        each.set_defaults(steps=steps)
    for each in (learn, relate):
        each.add_argument("--steps", type=int, default=each.get_default("steps"))
    for each in (relate, out):
        each.add_argument("--start", default="train", help="name of the run to begin with")
    out.add_argument("--to", type=Path, required=True)
    for each in (see, learn, relate, out):
        each.add_argument("--efficientnet", type=Path, required=True, help="published .pth file")
        each.add_argument("--width", type=float, default=1.1)
        each.add_argument("--depth", type=float, default=1.2)

    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
