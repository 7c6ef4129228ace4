"""Draws of training samples for `self_correction.py`: a task, a number of labels, a share of them turned round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MOST_VALID = 1000
_COLUMNS = {"CoLA": (3, None, 1), "MRPC": (3, 4, 0), "SST-2": (0, None, 1)}  # text, pair, label
_HEADER = {"CoLA": 0, "MRPC": 1, "SST-2": 1}
_VADER = {"tweets": "tweets", "reviews": "amazonReviewSnippets"}


@dataclass(frozen=True)
class Draw:
    task: str
    size: int
    flip: float
    seed: int


def draw_samples(draw: Draw, folder: Path, *, glue: Path, reviews: str | None) -> np.ndarray:
    """Write train.tsv and valid.tsv; [N] which training labels were turned."""
    if draw.task in _VADER:
        assert reviews is not None, "--reviews names the folder with the raw tables"
        rows = _rated(Path(reviews) / f"{_VADER[draw.task]}_GroundTruth.txt")
        order = np.random.default_rng(0).permutation(len(rows))
        held = [rows[i] for i in order[:_MOST_VALID]]
        pool = [rows[i] for i in order[_MOST_VALID:]]
    else:
        held, pool = (_glue(glue / draw.task / f"{side}.tsv", draw.task) for side in ("dev", "train"))
        held = held[:_MOST_VALID]
    random = np.random.default_rng(draw.seed)
    seen = {row[:2] for row in held}
    pool = [row for row in pool if row[:2] not in seen]
    chosen = [pool[i] for i in random.choice(len(pool), min(draw.size, len(pool)), replace=False)]
    flipped = np.zeros(len(chosen), dtype=bool)
    flipped[random.choice(len(chosen), round(draw.flip * len(chosen)), replace=False)] = True
    turned = [
        (text, pair, 1 - label if turn else label) for (text, pair, label), turn in zip(chosen, flipped, strict=True)
    ]
    _write(folder / "train.tsv", turned)
    _write(folder / "valid.tsv", held)
    return flipped


def _glue(path: Path, task: str) -> list[tuple[str, str, int]]:
    text, pair, label = _COLUMNS[task]
    lines = path.read_text(encoding="utf-8-sig").splitlines()[_HEADER[task] :]
    cells = (line.split("\t") for line in lines)
    return [(row[text].strip(), row[pair].strip() if pair else "", int(row[label])) for row in cells]


def _rated(path: Path) -> list[tuple[str, str, int]]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    cells = [line.split("\t") for line in lines]
    return [(row[2].strip(), "", int(float(row[1]) > 0)) for row in cells if len(row) == 3 and abs(float(row[1])) > 0.5]


def _write(path: Path, rows: list[tuple[str, str, int]]) -> None:
    lines = ["text\tpair\tlabel", *(f"{text}\t{pair}\t{label}" for text, pair, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
