"""The recipe of the built-in model: prepare the data, train, export.

    python -m sightline.data.training.train_builtin prepare --prepared DIR \\
        --tiny-imagenet DIR --cifar10 DIR --flickr8k-images DIR --flickr8k-captions FILE \\
        --flickr8k-splits DIR --clothing DIR \\
        --scenes 24000
    python -m sightline.data.training.train_builtin train  --prepared DIR --work DIR --minutes 90 \\
        --processes 2 --threads 1
    python -m sightline.data.training.train_builtin export --work DIR --to data/builtin

Run it from the top of the checkout. ``train`` writes a checkpoint every few minutes and goes on
from it when it is started again, so a run can be stopped at any time; a longer run or one on a GPU
(``--device cuda``, pictures held on the device as bytes and augmented there) needs other arguments
only. Where the data comes from, and what may be done with it, is in ``data/builtin/README.md``.
Held-out scenes, Tiny ImageNet's validation set and Flickr8k's test split are never read here; the
choices between recipes are made on a part of the training data that is held out for them.
"""

import argparse
import copy
import json
import logging
import math
import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, VisionTextDualEncoderModel

from sightline.data.training import data
from sightline.data.training.data import Level, Source
from sightline.data.training.model import (
    MEAN,
    STD,
    Batch,
    Learner,
    Question,
    augmented,
    build_model,
    build_tokenizer,
    ease_backward,
    image_features,
    normalised,
    resized,
    text_features,
)

log = logging.getLogger("train_builtin")

ALIKE = 24  # pictures of one setting that are shown together
NAMES_EVERY = 3  # steps: class names are 300 texts, and cost more than the batch's pictures
STOPPED = 0.25  # chance of a text to end with a full stop, which the data sets' texts never do


@dataclass(frozen=True)
class Treatment:
    """How one source takes part: its share of every batch and how its pictures are varied."""

    share: float
    smallest_area: float  # of a random crop
    colour: float  # largest change of brightness and contrast
    word_drop: float  # chance of a caption's word to be left out
    dev_every: int  # one picture in so many is held out to choose by


# Captions speak of what stands at the edges and of colours, so captioned pictures are cropped
# little; the 6,000 photographs of Flickr8k would be learnt by heart without a stronger variation.
TREATMENTS = {
    "tiny_imagenet": Treatment(0.30, 0.45, 0.25, 0.0, 50),
    "scenes": Treatment(0.50, 0.85, 0.08, 0.0, 50),
    "flickr8k": Treatment(0.12, 0.50, 0.25, 0.1, 10_000_000),  # has a dev split of its own
    "cifar10": Treatment(0.04, 0.60, 0.20, 0.0, 100),
    "clothing": Treatment(0.04, 0.50, 0.20, 0.0, 20),
}


# --- batches -------------------------------------------------------------------------------------


class Feed:
    """One source on the training device, handed out in an order that depends on the step alone.

    So a run that goes on from a checkpoint sees what it would have seen without the stop.
    """

    def __init__(self, source: Source, device: torch.device, *, seed: int) -> None:
        self.source = source
        self.treatment = TREATMENTS[source.name]
        self.pixels = torch.from_numpy(np.ascontiguousarray(source.pixels)).to(device)
        self.seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def rows(self, step: int, count: int) -> list[int]:
        """The pictures of this step: every one once a round, each round in another order."""
        rows = []
        for position in range(step * count, (step + 1) * count):
            epoch, place = divmod(position, len(self.source))
            if epoch not in self._orders:
                order = self._order(np.random.default_rng((self.seed, epoch)))
                self._orders = {**dict(list(self._orders.items())[-1:]), epoch: order}
            rows.append(int(self._orders[epoch][place]))
        return rows

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        """A random order in which `ALIKE` pictures of one setting follow one another.

        Scenes of different places are told apart by the place alone: only beside its like does a
        scene teach what stands in it.
        """
        order = rng.permutation(len(self.source))
        if not self.source.settings:
            return order
        _, setting = np.unique(self.source.settings, return_inverse=True)
        order = order[np.argsort(setting[order], kind="stable")]
        runs = [order[start : start + ALIKE] for start in range(0, len(order), ALIKE)]
        return np.concatenate([runs[place] for place in rng.permutation(len(runs))])


def class_targets(level: Level, rows: Sequence[int]) -> Tensor:
    """Each picture's classes as a distribution over all the classes of the level."""
    targets = torch.zeros(len(rows), len(level.names))
    for place, row in enumerate(rows):
        for member in level.members[row]:
            targets[place, member] = 1 / len(level.members[row])
    return targets


def caption_targets(captions: Sequence[str]) -> Tensor:
    """The diagonal; where two pictures carry the same sentence, either is right."""
    same = torch.tensor([[a == b for b in captions] for a in captions], dtype=torch.float32)
    return same / same.sum(dim=1, keepdim=True)


def chosen_caption(captions: Sequence[str], rng: random.Random) -> str:
    """Any of a picture's captions, the first (the fullest) more often."""
    return captions[0] if rng.random() < 0.5 else rng.choice(captions)


def word_dropped(text: str, chance: float, rng: random.Random) -> str:
    """The sentence without some of its words, so that few captions are not learnt by heart."""
    return " ".join(word for word in text.split() if rng.random() >= chance) or text


def punctuated(text: str, rng: random.Random) -> str:
    """The sentence, at times with the full stop that people and templates put at its end.

    A model that has never seen one loses a third of its zero-shot accuracy to it.
    """
    return f"{text}." if rng.random() < STOPPED else text


def tells_left_from_right(text: str) -> bool:
    return "left" in text or "right" in text


def make_batch(
    feeds: Sequence[Feed], step: int, *, size: int, batch: int, seed: int, names: bool
) -> Batch:
    """A blend of all sources in fixed shares, since batch normalisation must see what it will
    meet; each source's pictures are compared with that source's texts only."""
    rng = random.Random(f"{seed}/{step}")
    torch.manual_seed(rng.getrandbits(48))
    total = sum(feed.treatment.share for feed in feeds)
    pictures: list[Tensor] = []
    texts: list[str] = []
    questions: list[Question] = []
    start = 0
    for feed in feeds:
        count = max(2, round(batch * feed.treatment.share / total))
        rows = feed.rows(step, count)
        span = slice(start, start + count)
        start += count
        mirrored = [rng.random() < 0.5 for _ in rows]
        if feed.source.captions:
            captions = [chosen_caption(feed.source.captions[row], rng) for row in rows]
            mirrored = [
                flip and not tells_left_from_right(text)
                for flip, text in zip(mirrored, captions, strict=True)
            ]
            place = slice(len(texts), len(texts) + count)
            targets = caption_targets(captions)
            contrasts: slice | None = None
            drop = feed.treatment.word_drop
            texts += [word_dropped(text, drop, rng) if drop else text for text in captions]
            if feed.source.contrasts:
                almost = [rng.choice(few) for row in rows if (few := feed.source.contrasts[row])]
                contrasts = slice(len(texts), len(texts) + len(almost))
                texts += almost
            name = feed.source.name
            questions.append(Question(span, place, targets, True, name, contrasts))
        for depth, level in enumerate(feed.source.levels):
            asked: slice | None = None
            if names:
                asked = slice(len(texts), len(texts) + len(level.names))
                texts += [data.random_phrase(names, rng) for names in level.names]
            name = f"{feed.source.name}-{depth}"
            questions.append(Question(span, asked, class_targets(level, rows), False, name))
        flips = torch.tensor(mirrored, device=feed.pixels.device)
        index = torch.tensor(rows, device=feed.pixels.device)
        pictures.append(
            augmented(
                feed.pixels[index],
                size,
                mirrored=flips,
                smallest_area=feed.treatment.smallest_area,
                colour=feed.treatment.colour,
            )
        )
    texts = [punctuated(text, rng) for text in texts]
    return Batch(normalised(torch.cat(pictures)), texts, questions)


# --- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How long, how large and how fast. A run ends at ``steps`` or after ``minutes``."""

    steps: int
    minutes: float
    batch: int
    sizes: tuple[tuple[float, int], ...]  # (until this part of the run, pixels)
    rate: float
    decay: float
    seed: int

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end, by whichever limit is nearer."""
        return min(1.0, max(step / self.steps, seconds / (60 * self.minutes)))

    def size(self, progress: float) -> int:
        """Small pictures first: most of what they teach, at a fraction of the cost."""
        return next((size for until, size in self.sizes if progress < until), self.sizes[-1][1])

    def rate_at(self, progress: float) -> float:
        """One cycle: a short linear rise, then half a cosine down to nothing."""
        warm = 0.05
        if progress < warm:
            return self.rate * (0.02 + 0.98 * progress / warm)
        return self.rate * (0.5 + 0.5 * math.cos(math.pi * (progress - warm) / (1 - warm)))


def optimizer_for(model: nn.Module, plan: Plan) -> torch.optim.AdamW:
    """AdamW; matrices and filters decay, gains, offsets and word vectors do not."""
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "free": [], "scales": []}
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or "embeddings.word" in name or "embeddings.position" in name
        kind = "scales" if "scale" in name else "free" if plain else "decayed"
        groups[kind].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups["decayed"], "weight_decay": plan.decay, "pace": 1.0},
            {"params": groups["free"], "weight_decay": 0.0, "pace": 1.0},
            # A temperature moves by a step of the rate at a time: too slowly for a short run.
            {"params": groups["scales"], "weight_decay": 0.0, "pace": 5.0},
        ],
        lr=plan.rate,
        betas=(0.9, 0.98),
    )


@torch.no_grad()
def encode_pictures(
    model: VisionTextDualEncoderModel, source: Source, size: int, chunk: int = 250
) -> Tensor:
    """All pictures of a source as unit vectors (n, DIMENSION)."""
    parts = []
    for start in range(0, len(source), chunk):
        pixels = torch.from_numpy(np.array(source.pixels[start : start + chunk]))
        parts.append(image_features(model, normalised(resized(pixels.to(model.device), size))))
    return torch.cat(parts)


@torch.no_grad()
def measure(
    model: VisionTextDualEncoderModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    size: int,
) -> dict[str, float]:
    """Top-1 by plain class names, or recall@1 and @10 of captions among the source's pictures."""
    model.eval()
    images = encode_pictures(model, source, size)
    if source.levels:
        level = source.levels[0]
        prompts = [data.phrase(names[0], "a photo of {a}") for names in level.names]
        best = (images @ text_features(model, tokenizer, prompts).T).argmax(dim=1).tolist()
        right = [place in level.members[row] for row, place in enumerate(best)]
        return {"top1": sum(right) / len(right)}
    # Photographs have five captions of equal worth; a scene's first caption is the full one.
    pairs = [
        (row, text)
        for row, captions in enumerate(source.captions)
        for text in (captions if source.name.startswith("flickr") else captions[:1])
    ]
    ranks = []
    for start in range(0, len(pairs), 500):
        part = pairs[start : start + 500]
        scores = text_features(model, tokenizer, [text for _, text in part]) @ images.T
        rows = torch.tensor([row for row, _ in part], device=scores.device)
        own = scores.gather(1, rows[:, None])
        ranks.append((scores > own).sum(dim=1))
    rank = torch.cat(ranks)
    return {f"recall@{k}": (rank < k).float().mean().item() for k in (1, 10)}


def load_sources(prepared: Path) -> tuple[list[Source], list[Source]]:
    """What to learn from and what to choose by, of all that has been prepared."""
    learn, choose = [], []
    for name, treatment in TREATMENTS.items():
        if not (prepared / f"{name}.json").exists():
            continue
        kept, held = Source.load(prepared, name).hold_out(treatment.dev_every)
        learn.append(kept)
        if len(held):
            choose.append(held)
    if (prepared / "flickr8k_dev.json").exists():
        choose.append(Source.load(prepared, "flickr8k_dev"))
    if not learn:
        raise SystemExit(f"no prepared data in {prepared}: run the prepare command first")
    return learn, choose


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Written beside and renamed, so that a stop in the middle loses nothing."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


@dataclass(frozen=True)
class Team:
    """Processes that train one model together, each on its own part of every batch.

    On a CPU one thread a process: oneDNN's threads wait for one another by spinning, so with two
    threads on a machine that has other work a backward pass took up to ten times its time.
    """

    rank: int = 0
    size: int = 1

    def average(self, learner: nn.Module, seconds: float) -> float:
        """Gradients become their mean over the team; returns the mean clock, so that all agree."""
        if self.size == 1:
            return seconds
        gradients = []
        for parameter in learner.parameters():
            if parameter.grad is None:  # a text that was not asked for this time
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        clock = torch.tensor([seconds], device=gradients[0].device)
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), clock])
        distributed.all_reduce(flat)
        flat /= self.size
        start = 0
        for gradient in gradients:
            end = start + gradient.numel()
            gradient.copy_(flat[start:end].view_as(gradient))
            start = end
        return float(flat[-1])


def train(
    prepared: Path,
    work: Path,
    plan: Plan,
    *,
    device: str = "cpu",
    every_minutes: float = 5,
    team: Team | None = None,
    start_from: Path | None = None,
) -> VisionTextDualEncoderModel:
    """Train from the beginning, or go on from ``work``'s checkpoint; returns the model.

    ``start_from`` is the folder of an exported model: a new run begins with its weights and its
    tokenizer, and what only training needs (prototypes, temperatures) is learnt anew around them.
    """
    where, team = torch.device(device), team or Team()
    learn, choose = load_sources(prepared)
    log.info("learning from %s", {source.name: len(source) for source in learn})
    if start_from and not (work / "tokenizer.json").exists():
        AutoTokenizer.from_pretrained(start_from).save_pretrained(work)
    elif not (work / "tokenizer.json").exists():
        texts = [text for source in learn for text in data.sentences(source)]
        words = prepared / "words.txt"
        texts += list(data.broad_vocabulary(words)) if words.exists() else []
        build_tokenizer(texts, work)
    tokenizer = AutoTokenizer.from_pretrained(work)
    torch.manual_seed(plan.seed)
    model = build_model(tokenizer).to(where, memory_format=torch.channels_last)
    if start_from:
        began = VisionTextDualEncoderModel.from_pretrained(start_from, dtype=torch.float32)
        model.load_state_dict(began.state_dict())
    learner = Learner(model, learn).to(where)
    if start_from:
        learner.adopt(tokenizer)
    optimizer = optimizer_for(learner, plan)
    if where.type == "cpu":
        ease_backward(model)
    step, seconds = 0, 0.0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=where, weights_only=True)
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        log.info("going on from step %d after %.1f minutes", step, seconds / 60)

    feeds = [Feed(source, where, seed=plan.seed) for source in learn]
    running, last = 0.0, time.monotonic()
    next_save = seconds + 60 * every_minutes
    while (progress := plan.progress(step, seconds)) < 1:
        size = plan.size(progress)
        for group in optimizer.param_groups:
            group["lr"] = group["pace"] * plan.rate_at(progress)
        learner.train()
        batch = make_batch(
            feeds,
            step * team.size + team.rank,
            size=size,
            batch=plan.batch // team.size,
            seed=plan.seed,
            names=step % NAMES_EVERY == 0,
        )
        with torch.autocast(where.type, dtype=torch.bfloat16):
            loss = learner(batch, tokenizer)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        seconds = team.average(learner, seconds)
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimizer.step()
        running += loss.item()
        step += 1
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        if step % 100 == 0 and team.rank == 0:
            log.info(
                "step %d  %.0f%%  %d px  loss %.3f  %.1f min",
                *(step, 100 * progress, size, running / 100, seconds / 60),
            )
            running = 0.0
        if seconds >= next_save or plan.progress(step, seconds) >= 1:
            next_save = seconds + 60 * every_minutes
            if team.rank:
                continue
            state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(checkpoint, {**state, "step": step, "seconds": seconds})
            for source in choose:
                figures = measure(model, tokenizer, source, size)
                text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
                log.info("dev %s at %d px: %s", source.name, size, text)
    return model


def join(rank: int, port: int, options: argparse.Namespace) -> None:
    """One process of a team: ``--processes`` on this machine, found through a local port."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    team = Team(rank, options.processes)
    if team.size > 1:
        where = f"tcp://127.0.0.1:{port}"
        backend = "nccl" if options.device == "cuda" else "gloo"
        distributed.init_process_group(backend, where, rank=rank, world_size=team.size)
    plan = Plan(
        steps=options.steps,
        minutes=options.minutes,
        batch=options.batch,
        sizes=options.sizes,
        rate=options.rate,
        decay=options.decay,
        seed=options.seed,
    )
    train(
        options.prepared,
        options.work,
        plan,
        device=options.device,
        team=team,
        start_from=options.start_from,
    )
    if team.size > 1:
        distributed.destroy_process_group()


# --- the command ---------------------------------------------------------------------------------


def export(work: Path, to: Path, *, size: int) -> None:
    """Write the model in transformers' format: float16 safetensors, tokenizer, preprocessing."""
    tokenizer = AutoTokenizer.from_pretrained(work)
    model = build_model(tokenizer)
    state = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(
        {
            name.removeprefix("model."): value
            for name, value in state["learner"].items()
            if name.startswith("model.")
        }
    )
    scales = [value for name, value in state["learner"].items() if name.startswith("scales.")]
    with torch.no_grad():  # the format has room for one temperature
        model.logit_scale.copy_(torch.stack(scales).mean())
    copy.deepcopy(model).half().save_pretrained(to)
    tokenizer.save_pretrained(to)
    preprocessing = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    text = json.dumps(preprocessing, indent=2) + "\n"
    (to / "preprocessor_config.json").write_text(text, encoding="utf-8")


def prepare(options: argparse.Namespace) -> None:
    """Decode and render everything once into ``--prepared``; what is not named is left out."""
    to, workers, size = options.prepared, options.workers, options.stored_size
    to.mkdir(parents=True, exist_ok=True)
    if options.tiny_imagenet:
        data.tiny_imagenet(options.tiny_imagenet, workers).save(to)
        words = (options.tiny_imagenet / "words.txt").read_text(encoding="utf-8")
        (to / "words.txt").write_text(words, encoding="utf-8")
    if options.cifar10:
        data.cifar10(options.cifar10, workers).save(to)
    if options.clothing:
        data.clothing(options.clothing, size, workers).save(to)
    if options.flickr8k_images:
        for split, name in (("train", "flickr8k"), ("dev", "flickr8k_dev")):
            data.flickr8k(
                options.flickr8k_images,
                options.flickr8k_captions,
                options.flickr8k_splits / f"flickr8k_split_{split}.txt",
                name=name,
                size=size,
                workers=workers,
            ).save(to)
    if options.scenes:
        data.scenes(options.first_scene, options.scenes, size=size, workers=workers).save(to)


def parse_sizes(text: str) -> tuple[tuple[float, int], ...]:
    """``"48:0.5,64:1"`` -> 48 px for the first half, then 64."""
    pairs = (part.split(":") for part in text.split(","))
    return tuple((float(until), int(size)) for size, until in pairs)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    get = commands.add_parser("prepare", help="decode the data sets and render scenes, once")
    get.add_argument("--prepared", type=Path, required=True, help="folder for the arrays")
    get.add_argument("--tiny-imagenet", type=Path, help="folder with train/ and words.txt")
    get.add_argument("--cifar10", type=Path, help="folder with train/<class>/*.jpg")
    get.add_argument("--clothing", type=Path, help="folder with images.csv and images/")
    get.add_argument("--flickr8k-images", type=Path, help="folder of the photographs")
    get.add_argument("--flickr8k-captions", type=Path, help="Flickr8k.token.txt")
    get.add_argument("--flickr8k-splits", type=Path, help="folder of flickr8k_split_*.txt")
    get.add_argument("--scenes", type=int, default=0, help="how many scenes to render")
    get.add_argument("--first-scene", type=int, default=0, help="seed of the first of them")
    get.add_argument("--stored-size", type=int, default=96, help="pixels a side (default 96)")
    get.add_argument("--workers", type=int, default=2)

    run = commands.add_parser("train", help="train, or go on from the checkpoint")
    run.add_argument("--prepared", type=Path, required=True)
    run.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    run.add_argument("--start-from", type=Path, help="folder of an exported model to begin with")
    run.add_argument("--steps", type=int, default=20_000)
    run.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    run.add_argument("--batch", type=int, default=384)
    run.add_argument("--sizes", type=parse_sizes, default=parse_sizes("32:0.3,48:0.62,64:1"))
    run.add_argument("--rate", type=float, default=2e-3)
    run.add_argument("--decay", type=float, default=0.05)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--device", default="cpu")
    run.add_argument("--processes", type=int, default=1, help="that share every batch")
    run.add_argument("--threads", type=int, default=0, help="0: as many as torch likes")

    out = commands.add_parser("export", help="write the model in transformers' format")
    out.add_argument("--work", type=Path, required=True)
    out.add_argument("--to", type=Path, default=Path(__file__).parent / "builtin")
    out.add_argument("--size", type=int, default=64, help="pixels a side: those it learnt at last")

    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.command == "prepare":
        prepare(options)
    elif options.command == "train":
        if options.processes == 1:
            join(0, 0, options)
        else:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            multiprocessing.spawn(join, (port, options), nprocs=options.processes)
    else:
        export(options.work, options.to, size=options.size)


if __name__ == "__main__":
    main()
