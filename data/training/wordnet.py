"""The nouns of WordNet (the files of Debian's ``wordnet-base``): names, broader names, glosses.

An ImageNet class is a WordNet synset: ``n02084071`` is the one at offset 02084071 of
``data.noun``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONCRETE = frozenset({4, 5, 6, 8, 11, 13, 15, 17, 18, 19, 20, 27})
"""Lexicographer files of what photos show: acts, animals, artifacts, body parts, events, food,
places, natural objects, people, phenomena, plants and substances."""


@dataclass(frozen=True)
class Synset:
    """One meaning: its names, the offsets of broader synsets, its definition."""

    names: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str
    file: int


@dataclass(frozen=True)
class Node:
    """A broader name and the classes below it."""

    names: tuple[str, ...]
    classes: tuple[int, ...]


def read_nouns(folder: Path) -> dict[str, Synset]:
    """``data.noun`` by offset (eight digits); names are in lower case."""
    found = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        head, _, gloss = line.partition("|")
        fields = head.split()
        count = int(fields[3], 16)
        pointers = 4 + 2 * count
        found[fields[0]] = Synset(
            names=tuple(fields[4 + 2 * n].replace("_", " ").lower() for n in range(count)),
            hypernyms=tuple(
                fields[pointers + 2 + 4 * n]
                for n in range(int(fields[pointers]))
                if fields[pointers + 1 + 4 * n] in ("@", "@i")
            ),
            gloss=gloss.split(";")[0].strip(" ()"),
            file=int(fields[1]),
        )
    return found


def read_counts(folder: Path) -> Counter[str]:
    """How often each word was tagged in WordNet's texts (``cntlist.rev``), all meanings summed."""
    counts: Counter[str] = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
        key, _, count = line.split()
        counts[key.partition("%")[0].replace("_", " ")] += int(count)
    return counts


def broader(nouns: dict[str, Synset], wnids: Sequence[str], *, most: int) -> list[Node]:
    """Every synset above the classes ``wnids`` that has at most ``most`` of them below it."""
    below: defaultdict[str, set[int]] = defaultdict(set)
    for number, wnid in enumerate(wnids):
        waiting, seen = [wnid[1:]], set()
        while waiting:
            for offset in nouns[waiting.pop()].hypernyms:
                if offset not in seen:
                    seen.add(offset)
                    below[offset].add(number)
                    waiting.append(offset)
    return [
        Node(nouns[offset].names, tuple(sorted(classes)))
        for offset, classes in below.items()
        if len(classes) <= most
    ]


def concrete(nouns: dict[str, Synset], counts: Counter[str]) -> list[Synset]:
    """What photos can show and texts mention, the most frequent first."""
    frequency = {
        offset: max(counts[name] for name in synset.names)
        for offset, synset in nouns.items()
        if synset.file in CONCRETE
    }
    chosen = sorted((count, offset) for offset, count in frequency.items() if count)
    return [nouns[offset] for _, offset in reversed(chosen)]
