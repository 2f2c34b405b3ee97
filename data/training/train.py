"""Trains the head and the text tower on cached features, then fine-tunes the last stages.

``train`` reads pooled features only: a step takes half a second of one core. ``finetune`` goes on
from its checkpoint with the last stages of the image tower unlocked, from the cached maps. Both
write a checkpoint every few minutes and resume from it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.data.training.corpus import Batch, Corpus, padded
from sightline.data.training.export import logit_scale
from sightline.data.training.features import Cached
from sightline.data.training.learner import Images, Learner, Statistics, losses
from sightline.data.training.network import EfficientNetLite, channels_last

log = logging.getLogger("sightline.training")

WORD_DROPOUT = 0.1
IMAGE_DROPOUT = 0.3
WARM_UP = 40
"""Steps in which the learning rate rises."""

BOTH_TOWERS = 4
"""Steps between those in which the transformer reads the names and the teachers' texts too: they
are short, and it costs most of a step."""

CHUNK = 448
"""Texts of like length that are encoded together."""

SAVE_SECONDS = 240.0

ORDERED_SPANS = ("captions", "scene_captions", "contrasts", "queries", "true_order", "false_order")
"""The texts that the transformer reads in every step."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast."""

    steps: int
    order_from: float
    """The fraction of the steps after which the transformer joins the bag."""
    rate: float = 1.5e-3
    """Of the text tower; word vectors learn twice as fast."""
    head_rate: float = 5e-4
    tower_rate: float = 0.0
    """Of the unlocked stages; 0 keeps them locked."""

    def factor(self, step: int) -> float:
        """Half a cosine after a short linear rise."""
        rise = min(1.0, (step + 1) / WARM_UP)
        return max(0.01, rise * (0.5 + 0.5 * math.cos(math.pi * step / self.steps)))


def unlocked(tower: EfficientNetLite, stages: int) -> list[nn.Parameter]:
    """The parameters of the head and of the last ``stages`` stages.

    The depthwise convolutions of all but the last stage stay locked: their 5 x 5 gradients are most
    of what a step would cost.
    """
    tower.requires_grad_(False)
    if not stages:
        return []
    chosen = list(tower.head.parameters())
    for stage in tower.stages[-stages:]:
        last = stage is tower.stages[-1]
        chosen += [p for name, p in stage.named_parameters() if last or "depthwise" not in name]
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def optimizer_for(learner: Learner, tower: list[nn.Parameter], plan: Plan) -> torch.optim.AdamW:
    """AdamW with a learning rate for each kind of parameter."""
    text = dict(learner.text.named_parameters())
    words = [p for name, p in text.items() if name.startswith("embeddings.word")]
    order = [
        p for n, p in text.items() if n.startswith(("order", "encoder", "embeddings.position"))
    ]
    rest = [p for name, p in text.items() if name.startswith("bag")]
    rest += [*learner.sentence.parameters(), *learner.clip.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": words, "lr": 2 * plan.rate, "weight_decay": 0.02},
        {"params": order, "lr": 0.7 * plan.rate, "weight_decay": 0.05},
        {"params": rest, "lr": plan.rate, "weight_decay": 0.05},
        {"params": list(learner.head.parameters()), "lr": plan.head_rate, "weight_decay": 0.1},
        {"params": list(learner.scales.parameters()), "lr": 5e-3, "weight_decay": 0.0},
    ]
    if tower:
        groups.append({"params": tower, "lr": plan.tower_rate, "weight_decay": 0.02})
    for group in groups:
        group["base"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


class Trainer:
    """One run: the corpus, the towers and the optimizer."""

    def __init__(
        self,
        folder: Path,
        tower: EfficientNetLite,
        classifier: tuple[Tensor, Tensor],
        plan: Plan,
        *,
        name: str,
        stages: int = 0,
        start: str | None = None,
        held_out: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        """``folder`` holds what ``prepare``, ``features`` and ``texts`` wrote; ``start`` is the
        name of the run to begin with; a checkpoint of this run goes before."""
        self.folder, self.plan, self.name = folder, plan, name
        self.classifier = classifier
        self.corpus = Corpus(folder, held_out=held_out or (), seed=seed)
        torch.manual_seed(seed)
        self.tower = channels_last(tower)
        photos = [self.corpus.photos.features[:, 0]]
        photos += [cached.features[:, 0] for cached in self.corpus.uncaptioned]
        scenes = self.corpus.scenes.features[: len(photos[0]) // 4, 0]
        statistics = Statistics.of(_floats(np.concatenate(photos)), _floats(scenes), classifier[0])
        targets = self.corpus.sentence_vectors.shape[1], self.corpus.clip_vectors.shape[1]
        self.learner = Learner(self.corpus.tokenizer.get_vocab_size(), statistics, targets)
        parameters = unlocked(self.tower, stages)
        self.fine_tuning = bool(parameters)
        self.optimizer = optimizer_for(self.learner, parameters, plan)
        self.parameters = [*self.learner.parameters(), *parameters]
        self.step = 0
        if self._file(name).exists():
            self._load(name, whole=True)
        elif start is not None:
            self._load(start, whole=False)

    def run(self, *, stop_after: int | None = None) -> None:
        """Train to the end of the plan, or ``stop_after`` steps from now."""
        last = self.plan.steps if stop_after is None else self.step + stop_after
        saved, running = time.monotonic(), {"all": 0.0}
        while self.step < min(last, self.plan.steps):
            found = self._step()
            running = {name: running.get(name, 0.0) + value for name, value in found.items()}
            self.step += 1
            if self.step % 50 == 0:
                text = "  ".join(f"{name} {value / 50:.3f}" for name, value in running.items())
                log.info("step %d  %s", self.step, text)
                running = {}
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()

    def _step(self) -> dict[str, float]:
        ordered = self.step >= self.plan.order_from * self.plan.steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * self.plan.factor(self.step)
        batch = self.corpus.batch(self.step, ordered=ordered)
        torch.manual_seed(self.step)
        self.learner.train()
        with torch.autocast("cpu", torch.bfloat16):
            texts = self._texts(batch, ordered=ordered)
            images = self._images(batch)
        found = losses(
            self.learner,
            self.corpus,
            batch,
            images,
            texts,
            self.classifier,
            dropout=IMAGE_DROPOUT,
        )
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(found.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.optimizer.step()
        return {name: float(loss.detach()) for name, loss in found.items()}

    def _texts(self, batch: Batch, *, ordered: bool) -> Tensor:
        """The unit vectors of the batch's texts."""
        read: set[int] = set()
        if ordered:
            spans = batch.spans if self.step % BOTH_TOWERS == 0 else ORDERED_SPANS
            for name in spans:
                read |= set(range(batch.spans[name].start, batch.spans[name].stop))
        by_length = sorted(range(len(batch.texts)), key=lambda row: len(batch.texts[row]))
        rows: list[int] = []
        parts: list[Tensor] = []
        for with_order in (True, False):
            some = [row for row in by_length if (row in read) is with_order]
            for start in range(0, len(some), CHUNK):
                chunk = some[start : start + CHUNK]
                ids = padded([batch.texts[row] for row in chunk])
                parts.append(self.learner.text(ids, ordered=with_order, word_dropout=WORD_DROPOUT))
                rows += chunk
        return torch.cat(parts)[torch.tensor(rows).argsort()]

    def _images(self, batch: Batch) -> Images:
        corpus = self.corpus
        photos, scenes = _taken(corpus.photos, batch.photos), _taken(corpus.scenes, batch.scenes)
        uncaptioned = _of_several(corpus.uncaptioned, batch.uncaptioned, _taken, photos[:0])
        original = torch.cat([photos, uncaptioned])
        if self.fine_tuning:
            photos = self._features(_maps(corpus.photos, batch.photos))
            scenes = self._features(_maps(corpus.scenes, batch.scenes))
            maps = _of_several(corpus.uncaptioned, batch.uncaptioned, _maps, photos[:0])
            uncaptioned = self._features(maps) if len(maps) else photos[:0]
        return Images(photos, scenes, uncaptioned, original)

    def _features(self, maps: Tensor) -> Tensor:
        """Maps after the fifth stage to pooled features, with gradients."""
        with torch.autocast("cpu", torch.bfloat16):
            return torch.cat([self.tower.features(part) for part in maps.split(64)])

    def save(self) -> None:
        """Write the checkpoint beside, and rename."""
        part = self._file(self.name).with_suffix(".part")
        state = {
            "learner": self.learner.state_dict(),
            "tower": self.tower.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, part)
        part.replace(self._file(self.name))

    def _load(self, name: str, *, whole: bool) -> None:
        state = torch.load(self._file(name), map_location="cpu", weights_only=True)
        self.learner.load_state_dict(state["learner"])
        self.tower.load_state_dict(state["tower"])
        if whole:
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
            log.info("resuming from step %d", self.step)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pt"

    def exported(self) -> dict[str, Tensor]:
        """The tensors of the exported model by name; see ``export``."""
        weight, bias = self.learner.projection()
        return {
            **{f"vision_model.{name}": each for name, each in self.tower.state_dict().items()},
            **{f"text_model.{name}": each for name, each in self.learner.text.state_dict().items()},
            "visual_projection.weight": weight,
            "visual_projection.bias": bias,
            "logit_scale": logit_scale(float(self.learner.scale("photos").detach())),
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Recall of captions on Flickr8k's dev photos and on dev scenes, whichever is prepared."""
        self.learner.eval()
        found: dict[str, float] = {}
        for name in ("flickr8k_dev", "scenes_dev"):
            if not (self.folder / f"{name}.flipped.npy").exists():
                continue
            facts = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            cached = Cached.open(self.folder, name, len(facts))
            rows = np.array([(row, 0) for row in range(len(facts))])
            features = _taken(cached, rows)
            if self.fine_tuning:
                parts = [rows[start : start + 64] for start in range(0, len(rows), 64)]
                features = torch.cat([self._features(_maps(cached, part)) for part in parts])
            images = self.learner.image(features)
            captions = [fact if isinstance(fact, list) else fact["captions"][:1] for fact in facts]
            own = torch.tensor([row for row, several in enumerate(captions) for _ in several])
            tokens = self.corpus.tokens([text for several in captions for text in several])
            texts = torch.cat(
                [self.learner.text(padded(tokens[n : n + 256])) for n in range(0, len(tokens), 256)]
            )
            scores = texts @ images.T
            rank = (scores > scores.gather(1, own[:, None])).sum(1)
            found |= {f"{name} R@{k}": float((rank < k).float().mean()) for k in (1, 10)}
        return found


def _floats(features: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(np.array(features, np.float32))


def _taken(cached: Cached, rows: NDArray[np.int64]) -> Tensor:
    return _floats(cached.features[rows[:, 0], rows[:, 1]])


def _maps(cached: Cached, rows: NDArray[np.int64]) -> Tensor:
    found = np.stack([cached.maps[row, view] for row, view in rows])
    return torch.from_numpy(found).to(torch.bfloat16).permute(0, 3, 1, 2)


def _of_several(
    sources: list[Cached],
    rows: NDArray[np.int64],
    read: Callable[[Cached, NDArray[np.int64]], Tensor],
    nothing: Tensor,
) -> Tensor:
    """Rows that count through several sources."""
    parts: list[Tensor] = []
    first = 0
    for cached in sources:
        mine = rows[(rows[:, 0] >= first) & (rows[:, 0] < first + len(cached.features))]
        if len(mine):
            parts.append(read(cached, mine - np.array([first, 0])))
        first += len(cached.features)
    return torch.cat(parts) if parts else nothing


def all_prepared(folder: Path) -> list[str]:
    """The names of the prepared sources in a folder."""
    names = ("flickr8k", "flickr8k_dev", "scenes", "scenes_dev", "clothing", "photos")
    return [name for name in names if (folder / f"{name}.npy").exists()]
