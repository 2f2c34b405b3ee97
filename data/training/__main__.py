"""The recipe of the built-in model, as commands.

    python -m sightline.data.training prepare  --work DIR --flickr8k-images DIR \\
        --flickr8k-captions FILE --flickr8k-splits DIR --clothing DIR --photos DIR --scenes 12000
    python -m sightline.data.training features --work DIR --efficientnet FILE.pth
    python -m sightline.data.training texts    --work DIR --wordnet DIR --wnids FILE \\
        --detic DIR --sentence-encoder DIR
    python -m sightline.data.training train    --work DIR --efficientnet FILE.pth
    python -m sightline.data.training finetune --work DIR --efficientnet FILE.pth
    python -m sightline.data.training export   --work DIR --efficientnet FILE.pth \\
        --average train:.5 finetune:.5 --to data/builtin

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
from sightline.data.training.network import load_efficientnet
from sightline.data.training.train import Plan, Trainer, all_prepared, log

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
    vocabulary.build(words, work / "vocab.txt")
    texts = teachers.teacher_texts(captions, names, clip, synsets, counts)
    (work / "sentences.json").write_text(json.dumps(texts), encoding="utf-8")
    np.save(work / "sentences.npy", teachers.sentence_vectors(options.sentence_encoder, texts))


def trainer(
    options: argparse.Namespace,
    plan: Plan,
    name: str,
    *,
    stages: int = 0,
    start: str | None = None,
) -> Trainer:
    """A run of this folder; ``start`` is the run whose weights it begins with."""
    tower, weight, bias = load_efficientnet(
        options.efficientnet, width=options.width, depth=options.depth
    )
    held_out = options.held_out.read_text(encoding="utf-8").split() if options.held_out else None
    return Trainer(
        options.work,
        tower,
        (weight, bias),
        plan,
        name=name,
        stages=stages,
        start=start,
        held_out=held_out,
    )


def run_train(options: argparse.Namespace) -> None:
    """The head and the text tower."""
    run = trainer(options, Plan(options.steps, order_from=0.6), options.name)
    run.run()
    log.info("dev: %s", run.evaluate())


def run_finetune(options: argparse.Namespace) -> None:
    """The last stages as well."""
    plan = Plan(
        options.steps, order_from=0.0, rate=3e-4, head_rate=2e-4, tower_rate=options.tower_rate
    )
    run = trainer(options, plan, options.name, stages=options.stages, start=options.start)
    run.run()
    log.info("dev: %s", run.evaluate())


def run_export(options: argparse.Namespace) -> None:
    """Write the mean of one or more runs as the model's folder."""
    averaged: dict[str, torch.Tensor] = {}
    total = sum(weight for _, weight in options.average)
    for name, weight in options.average:
        state = trainer(options, Plan(1, order_from=0.0), "export", start=name).exported()
        for key, tensor in state.items():
            averaged[key] = averaged.get(key, torch.zeros(())) + weight / total * tensor.detach()
    export(
        options.to,
        averaged,
        vocabulary.load(options.work / "vocab.txt"),
        width=options.width,
        depth=options.depth,
    )


def weighted(text: str) -> tuple[str, float]:
    """``"train:0.5" -> ("train", 0.5)``; the weight is 1 if it is not given."""
    name, _, weight = text.partition(":")
    return name, float(weight or 1)


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

    learn = command("train", run_train, "train the head and the text tower")
    tune = command("finetune", run_finetune, "go on with the last stages unlocked")
    out = command("export", run_export, "write the model as a folder")
    for each, name in ((learn, "train"), (tune, "finetune")):
        each.add_argument("--name", default=name, help="of the run")
    for each in (learn, tune, out):
        each.add_argument("--held-out", type=Path, help="WordNet ids whose names are not taught")
    learn.add_argument("--steps", type=int, default=900)
    tune.add_argument("--steps", type=int, default=300)
    tune.add_argument("--start", default="train", help="name of the run to begin with")
    tune.add_argument("--stages", type=int, default=2, help="how many stages are unlocked")
    tune.add_argument("--tower-rate", type=float, default=2e-4)
    out.add_argument("--to", type=Path, required=True)
    out.add_argument(
        "--average",
        type=weighted,
        nargs="+",
        metavar="RUN[:WEIGHT]",
        default=[("finetune", 1.0)],
        help="the runs whose weights are averaged",
    )
    for each in (see, learn, tune, out):
        each.add_argument("--efficientnet", type=Path, required=True, help="published .pth file")
        each.add_argument("--width", type=float, default=1.1)
        each.add_argument("--depth", type=float, default=1.2)

    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
