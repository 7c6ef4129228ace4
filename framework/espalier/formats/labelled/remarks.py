"""Remarks on labelled data before a run: classes and their sizes, and likely mistakes."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled

_MOST_CLASSES = 20
_BOOLEANS = {"true": 1.0, "false": 0.0}


def data_remarks(data: LabelledConfig, labelled: Labelled, *, path: str = "data") -> tuple[str, ...]:
    """Sentences about labelled data; warnings begin with that word.

    Args:
        path: of the data in the job file.
    """
    return tuple(_remarks(data, labelled, path))


def _remarks(data: LabelledConfig, labelled: Labelled, path: str) -> Iterator[str]:
    train, valid = labelled.train, labelled.valid
    yield f"{path}: {len(train):,} training and {len(valid):,} validation samples"
    if labelled.skipped or data.train.skip_blank:
        yield f"{labelled.skipped:,} rows without text are left out"
    if labelled.left_out:
        yield f"{labelled.left_out:,} training samples are left out, as their texts stand in {path}.valid too"
    if data.task == "regression":
        numbers = np.concatenate([train.targets, valid.targets])
        yield f"labels: numbers from {numbers.min():g} to {numbers.max():g}, in the mean {numbers.mean():g}"
        return
    yield _sizes(labelled)
    if not data.labels:  # classes that the job lists are meant to differ
        for alike in near_equal(labelled.classes):
            words = ", ".join(map(repr, alike))
            yield (
                f"warning: the classes {words} differ in blanks, case or the spelling of a number alone, and each is "
                f"a class of its own; where one is meant, mend the column `{data.train.label}`, or list them as "
                f"{path}.labels"
            )


def _sizes(labelled: Labelled) -> str:
    classes, most = labelled.classes, _MOST_CLASSES
    sides = [np.bincount(side.targets, minlength=len(classes)) for side in (labelled.train, labelled.valid)]
    sizes = [f"{name!r} {train:,} + {valid:,}" for name, train, valid in zip(classes, *sides, strict=True)]
    more = f", and {len(sizes) - most:,} more" if len(sizes) > most else ""
    return f"{len(classes):,} classes (training + validation samples): {', '.join(sizes[:most])}{more}"


def near_equal(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of classes that differ only in blanks, case, or the notation of a number, and may be meant as one."""
    groups: defaultdict[Hashable, list[str]] = defaultdict(list)
    for name in classes:
        groups[_meaning(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _meaning(name: str) -> Hashable:
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    if plain in _BOOLEANS:  # JSON's booleans are read as 1 and 0
        return _BOOLEANS[plain]
    try:
        number = float(plain)
    except ValueError:
        return plain
    return number if np.isfinite(number) else plain
