"""The losses. What is here besides the two towers is left out of the export.

- *Captions*: photos and their captions, and scenes and theirs, find each other in a batch
  (contrastive). Scenes also against captions that are almost true, and against their own caption
  with the two subjects exchanged, which teaches the order of words.
- *Queries*: short texts of the scenes find every scene of the batch that they are true of.
- *Class names*: the classifier's rows give a prototype of each ImageNet class without any photo
  of it. With the covariance S of real features, an average image of class c differs from the mean
  image in the direction S w_c (as in linear discriminant analysis). Names of a class, and of groups
  of classes, find these prototypes.
- *Distillation*: real photos, and features drawn around the class means, are judged by the
  prototypes as by the classifier.
- *Teachers*: a linear layer over the text embedding predicts a sentence encoder's vector of the
  same text, another one CLIP's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.data.training.corpus import Batch, Corpus
from sightline.data.training.network import DIMENSION, LAST_CHANNELS, BagOfWordpieces

SHRINKAGE = 0.1
"""Of covariances towards a multiple of the identity."""

SPATIAL_SCALE = 0.3
"""Of the features that say where things are, beside those that say what is there: with 1.0 the head
learns 6,000 photos by heart through them (Flickr8k dev R@10 .53 instead of .59)."""

SPATIAL_DROPOUT = 0.3
"""Probability with which an image is seen without them."""

NEAR_CAPTIONS = 0.2
"""Weight of other photos' captions that mean nearly the same, as the sentence encoder judges."""

NOISE = 0.8
"""Standard deviation of drawn features around their class mean, in those of real features."""

DRAWN = 160
"""Drawn features per batch."""

DRAWN_RIGHT = 0.8
"""Fraction of drawn features that the classifier gets right; it sets how far the class means are
from the mean."""

LARGEST_SCALE = 100.0

SCALES = {"photos": 20.0, "scenes": 20.0, "classes": 20.0, "sentences": 20.0, "clip": 20.0}
SCALES |= {"distillation": 20.0, "queries": 15.0}
"""Factors between cosines and logits at the start: 200 classes and 500 captions need different
ones."""

WEIGHTS = {"photos": 1.0, "scenes": 1.0, "order": 0.5, "queries": 0.3, "classes": 0.8}
WEIGHTS |= {"groups": 0.5, "distillation": 1.0, "drawn": 1.0, "sentences": 1.0, "clip": 0.5}
WEIGHTS |= {"kept": 1.0}
"""Of the losses."""


@dataclass(frozen=True)
class Statistics:
    """Of pooled features of real images, and what the classifier says of the classes."""

    mean: Tensor
    std: Tensor
    """``(d,)``; the head sees ``(features - mean) / std``."""
    class_means: Tensor
    """``(classes, d)``: an average image of each class, seen so."""
    noise: Tensor
    """``(d, d)``: a square root of the covariance, seen so."""
    projection: Tensor
    """``(DIMENSION, LAST_CHANNELS)``: the directions that best separate the classes."""

    @classmethod
    def of(cls, photos: Tensor, scenes: Tensor, classifier: Tensor) -> Statistics:
        """From features ``(n, d)`` of photos and of scenes, and the classifier's rows."""
        mean = photos.mean(0)
        std = torch.cat([photos, scenes]).std(0) + 1e-3
        std = torch.where(spatial(len(mean)), std / SPATIAL_SCALE, std)
        seen = (photos - mean) / std
        covariance = seen.T @ seen / len(seen)
        diagonal = covariance.diagonal()
        rows = classifier * std[:LAST_CHANNELS]
        rows = rows - rows.mean(0)
        within = (1 - SHRINKAGE) * covariance[:LAST_CHANNELS, :LAST_CHANNELS]
        within += SHRINKAGE * diagonal[:LAST_CHANNELS].mean() * torch.eye(LAST_CHANNELS)
        cross = (1 - SHRINKAGE) * covariance[:, :LAST_CHANNELS]
        cross[:LAST_CHANNELS] = within
        root = torch.linalg.cholesky(within)
        _, values, axes = torch.linalg.svd(rows @ root, full_matrices=False)
        projection = axes[:DIMENSION] @ torch.linalg.inv(root)
        scale = (values[:DIMENSION] / values[0]).sqrt()
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * torch.diag(diagonal)
        noise = torch.linalg.cholesky(shrunk + 1e-4 * torch.eye(len(shrunk)))
        directions = rows @ cross.T
        distance = _distance(directions, noise, mean, std, classifier)
        return cls(mean, std, directions * distance, noise, projection * scale[:, None])

    def draw(self, classes: Tensor) -> Tensor:
        """Random pooled features of images of these classes, ``(n, d)``."""
        noise = torch.randn(len(classes), len(self.noise)) @ self.noise.T
        return (self.class_means[classes] + NOISE * noise) * self.std + self.mean


def spatial(width: int) -> Tensor:
    """Which of the ``width`` pooled features say where things are, ``(width,) bool``."""
    fine = (width - 3 * LAST_CHANNELS) // 6
    where = torch.zeros(width, dtype=torch.bool)
    where[LAST_CHANNELS : 3 * LAST_CHANNELS] = True
    where[3 * LAST_CHANNELS + 2 * fine :] = True
    return where


def _distance(
    directions: Tensor, noise: Tensor, mean: Tensor, std: Tensor, classifier: Tensor
) -> float:
    """The factor at which the classifier gets `DRAWN_RIGHT` of one drawn image per class right."""
    spread = NOISE * torch.randn(len(directions), len(noise)) @ noise.T
    truth = torch.arange(len(directions))
    low, high = 0.1, 100.0
    for _ in range(10):
        factor = math.sqrt(low * high)
        features = (directions * factor + spread) * std + mean
        right = (features[:, :LAST_CHANNELS] @ classifier.T).argmax(1) == truth
        low, high = (factor, high) if right.float().mean() < DRAWN_RIGHT else (low, factor)
    return factor


class Learner(nn.Module):
    """The text tower, the projection of the image features, and what only training needs."""

    def __init__(self, vocabulary: int, statistics: Statistics, targets: tuple[int, int]) -> None:
        """``targets``: dimensions of the sentence encoder's and of CLIP's vectors."""
        super().__init__()
        self.text = BagOfWordpieces(vocabulary)
        self.head = nn.Linear(len(statistics.mean), DIMENSION)
        with torch.no_grad():
            self.head.weight.normal_(std=0.002)
            projection = statistics.projection  # fewer rows if there are fewer classes
            self.head.weight[: len(projection), :LAST_CHANNELS] = projection
            self.head.bias.zero_()
        self.statistics = statistics
        self.sentence = nn.Linear(DIMENSION, targets[0])
        self.clip = nn.Linear(DIMENSION, targets[1])
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(math.log(value))) for name, value in SCALES.items()}
        )

    def image(self, features: Tensor, *, dropout: float = 0.0) -> Tensor:
        """Pooled features ``(n, d)`` to unit vectors ``(n, DIMENSION)``."""
        seen = (features - self.statistics.mean) / self.statistics.std
        if dropout:
            blind = torch.rand(len(seen), 1) < SPATIAL_DROPOUT
            seen = seen.masked_fill(blind & spatial(seen.shape[1]), 0.0)
        return F.normalize(self.head(F.dropout(seen, dropout)).float(), dim=-1)

    def prototypes(self) -> Tensor:
        """The classes' unit vectors ``(classes, DIMENSION)``."""
        return F.normalize(self.head(self.statistics.class_means).float(), dim=-1)

    def scale(self, name: str) -> Tensor:
        """The factor between cosines and logits of one loss."""
        return self.scales[name].clamp(0, math.log(LARGEST_SCALE)).exp()

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the projection over the pooled features themselves."""
        weight = self.head.weight / self.statistics.std
        return weight, self.head.bias - weight @ self.statistics.mean


@dataclass(frozen=True)
class Images:
    """The features of a batch; ``original`` are those of the locked tower."""

    photos: Tensor
    scenes: Tensor
    uncaptioned: Tensor
    original: Tensor
    """Of the photos and the uncaptioned ones."""


def losses(
    learner: Learner,
    corpus: Corpus,
    batch: Batch,
    images: Images,
    texts: Tensor,
    classifier: tuple[Tensor, Tensor],
    *,
    dropout: float,
) -> dict[str, Tensor]:
    """Every loss, weighted. ``texts`` are the unit vectors of ``batch.texts``."""
    found: dict[str, Tensor] = {}
    photos = learner.image(images.photos, dropout=dropout)
    scenes = learner.image(images.scenes, dropout=dropout)
    prototypes = learner.prototypes()

    def part(name: str) -> Tensor:
        return texts[batch.spans[name]]

    pairs = []
    for name in CAPTIONS:
        meant = torch.from_numpy(corpus.sentence_vectors[batch.caption_sentences[name]]).float()
        targets = NEAR_CAPTIONS * (meant @ meant.T / 0.07).softmax(1)
        targets += (1 - NEAR_CAPTIONS) * torch.eye(len(photos))
        pairs.append(_both_ways(learner.scale("photos") * photos @ part(name).T, targets))
    found["photos"] = torch.stack(pairs).mean()
    same = _equal(batch.same_captions)
    there = learner.scale("scenes") * scenes @ part("scene_captions").T
    almost = learner.scale("scenes") * scenes @ part("contrasts").T
    forward = _soft(torch.cat([there, almost], dim=1), F.pad(same, (0, almost.shape[1])))
    found["scenes"] = (forward + _soft(there.T, same)) / 2
    if batch.ordered:
        gap = (scenes[batch.ordered] * (part("true_order") - part("false_order"))).sum(1)
        found["order"] = F.softplus(-learner.scale("scenes") * gap).mean()
    truth = torch.from_numpy(batch.true_queries).float()
    if len(truth):
        logits = learner.scale("queries") * part("queries") @ scenes.T
        found["queries"] = _soft(logits, truth / truth.sum(1, keepdim=True))

    logits = learner.scale("classes") * part("classes") @ prototypes.T
    found["classes"] = F.cross_entropy(logits, torch.tensor(batch.classes))
    logits = learner.scale("classes") * part("groups") @ prototypes.T
    targets, hidden = _group_targets(corpus, batch, len(prototypes))
    found["groups"] = _divergence(logits.masked_fill(hidden, -1e4), targets)

    judged = torch.cat([photos, learner.image(images.uncaptioned, dropout=dropout)])
    teacher = _classified(images.original, classifier)
    scale = learner.scale("distillation")
    found["distillation"] = _divergence(scale * judged @ prototypes.T, teacher)
    drawn = learner.statistics.draw(torch.randperm(len(prototypes))[:DRAWN])
    seen = learner.image(drawn, dropout=dropout)
    found["drawn"] = _divergence(scale * seen @ prototypes.T, _classified(drawn, classifier))
    if images.photos.requires_grad:  # the tower is being fine-tuned
        now = torch.cat([images.photos, images.uncaptioned])
        weight, bias = classifier
        found["kept"] = _divergence(now[:, :LAST_CHANNELS] @ weight.T + bias, teacher)

    for name, layer, vectors in (
        ("sentences", learner.sentence, _sentence_vectors(corpus, batch)),
        ("clip", learner.clip, _clip_vectors(corpus, batch)),
    ):
        predicted = F.normalize(layer(part(_TEACHER_TEXTS[name])).float(), dim=-1)
        near = (vectors @ vectors.T / 0.05).softmax(1)
        cosine = 1 - (predicted * vectors).sum(1).mean()
        found[name] = cosine + 0.4 * _soft(learner.scale(name) * predicted @ vectors.T, near)
    return {name: WEIGHTS[name] * loss for name, loss in found.items()}


CAPTIONS = ("captions", "other_captions")
_TEACHER_TEXTS = {"sentences": "sentences", "clip": "clip_names"}


def _sentence_vectors(corpus: Corpus, batch: Batch) -> Tensor:
    return torch.from_numpy(corpus.sentence_vectors[batch.sentences]).float()


def _clip_vectors(corpus: Corpus, batch: Batch) -> Tensor:
    """Centred: CLIP's text vectors share a large common part."""
    return F.normalize(corpus.clip_vectors[batch.clip_names] - corpus.clip_vectors.mean(0), dim=-1)


def _classified(features: Tensor, classifier: tuple[Tensor, Tensor]) -> Tensor:
    """The classifier's probabilities for pooled features."""
    weight, bias = classifier
    return (features.detach()[:, :LAST_CHANNELS] @ weight.T + bias).softmax(1)


def _group_targets(corpus: Corpus, batch: Batch, classes: int) -> tuple[Tensor, Tensor]:
    """For each group its classes as a distribution, and the classes that were not judged."""
    targets = torch.zeros(len(batch.groups), classes)
    hidden = torch.zeros(len(batch.groups), classes, dtype=torch.bool)
    for row, number in enumerate(batch.groups):
        _, members, among = corpus.groups[number]
        targets[row, members] = 1 / len(members)
        if among is not None:
            hidden[row] = True
            hidden[row, among] = False
    return targets, hidden


def _equal(keys: list[tuple[int, ...]]) -> Tensor:
    """Which keys are equal, rows summing to 1."""
    numbers: dict[tuple[int, ...], int] = {}
    found = torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])
    same = (found[:, None] == found[None]).float()
    return same / same.sum(1, keepdim=True)


def _both_ways(logits: Tensor, targets: Tensor) -> Tensor:
    return (_soft(logits, targets) + _soft(logits.T, targets)) / 2


def _soft(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of rows of logits against distributions."""
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


def _divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence: cross-entropy less what no model can avoid."""
    entropy = -(targets * targets.clamp_min(1e-9).log()).sum(dim=1).mean()
    return _soft(logits, targets) - entropy
