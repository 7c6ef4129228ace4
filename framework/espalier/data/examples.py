"""Labelled samples read from the user's tables and checked, always in the same order."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from espalier.config.data import HeldOutConfig
from espalier.config.exact import rounded_part
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.config.labelled import LabelledConfig, TableConfig
from espalier.data.order import positions_to_indices
from espalier.data.rows import TableRow, Wanted, bad_row, is_blank, read_rows

_NUMERAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Examples:
    """N labelled samples. A sample's index, 0 to N - 1, is its sample id everywhere.

    Attributes:
        names: what the user calls each: the id column, or the row that it was read from.
        texts: the text, or the first of the pair.
        pairs: the second of the pair; None for single texts.
        targets: [N] int64 classes, or [N] float64 numbers.
        weights: [N] float64 above 0, mean 1.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None
    targets: NDArray[np.int64] | NDArray[np.float64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def key(self) -> str:
        """Hash of the texts of the samples, in order; labels do not enter it."""
        digest = xxhash.xxh3_128()
        for place in range(len(self)):
            digest.update(f"{text_hash(self, place)} ".encode())
        return digest.hexdigest()

    def take(self, places: Sequence[int] | NDArray[np.int64]) -> Examples:
        """The samples at `places`, in that order; weights are rescaled to a mean of 1."""
        weights = self.weights[places]
        return Examples(
            names=tuple(self.names[i] for i in places),
            texts=tuple(self.texts[i] for i in places),
            pairs=self.pairs and tuple(self.pairs[i] for i in places),
            targets=self.targets[places],
            weights=weights / weights.mean() if len(weights) else weights,
        )


@dataclass(frozen=True)
class Labelled:
    """The training and validation samples of a job's labelled data.

    Attributes:
        classes: values of the label column, in the order of the model's outputs; empty for a regression.
        names: of the classes, for people.
        left_out: number of training samples dropped because their text is also a validation sample.
        skipped: number of rows without a text, on both sides together.
    """

    train: Examples
    valid: Examples
    classes: tuple[str, ...]
    names: tuple[str, ...]
    left_out: int = 0
    skipped: int = 0


def read_labelled(data: LabelledConfig, *, seed: int) -> Labelled:
    """Read the tables of a job, check them, and split off the validation samples.

    Training samples whose text is also a validation sample are dropped.

    Args:
        seed: of the random choice that `data.limit` makes.

    Raises:
        RefusedInput: unreadable tables, blank texts, missing labels or labels outside `labels`, repeated ids,
            weights that are no positive numbers, a class without a training sample, a single class, an empty side, a
            limit below the number of classes.
    """
    read = list(_rows(data.train, setting="data.train"))
    rows = _with_text(data.train, read)
    skipped = len(read) - len(rows)
    if not rows:
        raise RefusedInput([_empty("data.train")])
    classes = data.labels or (() if data.task == "regression" else _found_classes(rows, setting="data.train"))
    whole = _examples(data.train, rows, classes, setting="data.train")
    if isinstance(data.valid, HeldOutConfig):
        held = _held_out(whole, data.valid.fraction)
        train, valid = whole.take(np.flatnonzero(~held)), whole.take(np.flatnonzero(held))
    else:
        read = list(_rows(data.valid, setting="data.valid"))
        kept = _with_text(data.valid, read)
        skipped += len(read) - len(kept)
        valid = _examples(data.valid, kept, classes, setting="data.valid")
        seen = {text_hash(valid, i) for i in range(len(valid))}
        train = whole.take([i for i in range(len(whole)) if text_hash(whole, i) not in seen])
    left_out = len(whole) - len(train) if isinstance(data.valid, TableConfig) else 0
    if data.limit and data.limit < len(train):
        train = train.take(_drawn(train, data.limit, seed=seed))
    _check_sides(data, train, valid, classes)
    if data.balance:
        train = replace(train, weights=_balanced(train, len(classes)))
    return Labelled(train, valid, classes, data.names or classes, left_out, skipped)


def _drawn(train: Examples, limit: int, *, seed: int) -> NDArray[np.int64]:
    """Indices of `limit` random samples with the share of each class, at least one of each.

    The next sample is always of the class of which the smallest part was drawn (Adams' apportionment), so a larger
    limit adds to the choice of a smaller one.
    """
    shuffled = positions_to_indices(np.arange(len(train)), num_sequences=len(train), seed=seed)
    is_class = train.targets.dtype == np.int64
    kinds = train.targets[shuffled] if is_class else np.zeros(len(train), dtype=np.int64)
    found = np.unique(kinds)
    if limit < len(found):
        allowed = f"at least {len(found)}, as so many classes have training samples, and each needs one"
        raise RefusedInput([Fault("data.limit", limit, allowed)])
    part = np.empty(len(train))
    for kind in found:
        places = np.flatnonzero(kinds == kind)
        part[places] = np.arange(len(places)) / len(places)
    return np.sort(shuffled[np.argsort(part, kind="stable")[:limit]])


def _rows(table: TableConfig, *, setting: str) -> Iterator[TableRow]:
    uses = ("text", "pair", "label", "id", "weight")
    columns = {use: getattr(table, use) for use in uses if getattr(table, use)}
    return read_rows(table, Wanted(setting, columns, table.columns))


def _with_text(table: TableConfig, rows: list[TableRow]) -> list[TableRow]:
    if not table.skip_blank:
        return rows
    return [row for row in rows if not is_blank(row.values["text"]) and row.values.get("pair", "") is not None]


def _held_out(whole: Examples, fraction: float) -> NDArray[np.bool_]:
    """[N] bool, True for validation: of each class the texts of smallest hash; a repeated text has its first class."""
    hashes = np.array([text_hash(whole, i) for i in range(len(whole))], dtype=np.uint64)
    _, first, text = np.unique(hashes, return_index=True, return_inverse=True)
    is_class = whole.targets.dtype == np.int64
    kinds = whole.targets[first] if is_class else np.zeros(len(first), dtype=np.int64)
    held = np.zeros(len(first), dtype=bool)
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        held[places[: rounded_part(fraction, len(places))]] = True
    return held[text]


def _found_classes(rows: Sequence[TableRow], *, setting: str) -> tuple[str, ...]:
    found = {class_of(row, setting=setting) for row in rows}
    numeric = all(_NUMERAL.fullmatch(name) for name in found)
    return tuple(sorted(found, key=lambda name: (float(name) if numeric else 0.0, name)))


def class_of(row: TableRow, *, setting: str) -> str:
    """The class in the label column of a row, as text.

    Raises:
        RefusedInput: an empty cell, or no word and no number.
    """
    value = row.values["label"]
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str | int | float) or value == "" or value != value:
        raise bad_row(row.path, row.number, f"a class in the label column, not {value!r}", setting=setting)
    return str(value)


def _examples(table: TableConfig, rows: Sequence[TableRow], classes: Sequence[str], *, setting: str) -> Examples:
    targets = _classes(rows, classes, setting=setting) if classes else _numbers(rows, setting=setting)
    return Examples(
        names=_names(table, rows, setting=setting),
        texts=tuple(_text(row, setting=setting) for row in rows),
        pairs=tuple(row.text("pair", setting=setting) for row in rows) if table.pair else None,
        targets=targets,
        weights=_weights(table, rows, setting=setting),
    )


def _text(row: TableRow, *, setting: str) -> str:
    text = row.text("text", setting=setting)
    if not text.strip():  # a tokenizer may make no token of a blank text
        raise bad_row(
            row.path,
            row.number,
            f"a text that is not blank; mend the row, or {setting}.skip_blank: true",
            setting=setting,
        )
    return text


def _classes(rows: Sequence[TableRow], classes: Sequence[str], *, setting: str) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [class_of(row, setting=setting) for row in rows]
    for row, given in zip(rows, labels, strict=True):
        if given not in numbers:
            near = nearest(given, classes)
            hint = f" (did you mean {near}?)" if near else ""
            instead = "extend data.labels" if setting == "data.train" else "give a training sample of it"
            allowed = f"one of the classes {', '.join(classes)}, not {given!r}{hint}; mend the row, or {instead}"
            raise bad_row(row.path, row.number, allowed, setting=setting)
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def _numbers(rows: Sequence[TableRow], *, setting: str) -> NDArray[np.float64]:
    return np.array([_number(row, "label", setting=setting) for row in rows], dtype=np.float64)


def _number(row: TableRow, use: str, *, setting: str) -> float:
    value = row.values[use]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # OverflowError: of integers that no float holds
        number = math.nan
    if not math.isfinite(number):
        raise bad_row(row.path, row.number, f"a finite number in the {use} column, not {value!r}", setting=setting)
    return number


def _weights(table: TableConfig, rows: Sequence[TableRow], *, setting: str) -> NDArray[np.float64]:
    if not table.weight:
        return np.ones(len(rows))
    weights = np.array([_number(row, "weight", setting=setting) for row in rows], dtype=np.float64)
    for row, weight in zip(rows, weights, strict=True):
        if weight <= 0:
            raise bad_row(row.path, row.number, f"a weight above 0, not {weight:g}", setting=setting)
    shares = weights / weights.max() if len(weights) else weights  # the sum of the largest floats is infinite
    return shares / shares.mean() if len(weights) else weights


def _names(table: TableConfig, rows: Sequence[TableRow], *, setting: str) -> tuple[str, ...]:
    if not table.id:
        paths = {row.path for row in rows}
        if len(paths) < 2:
            return tuple(str(row.number) for row in rows)
        root = os.path.commonpath([path.parent for path in paths])
        return tuple(f"{row.path.relative_to(root)}:{row.number}" for row in rows)
    for row in rows:
        if is_blank(row.values["id"]):
            raise bad_row(row.path, row.number, "an id, as the column has none here", setting=setting)
    names = tuple(str(row.values["id"]) for row in rows)
    counts = Counter(names)
    for row, name in zip(rows, names, strict=True):
        if counts[name] > 1:
            allowed = f"an id of its own for each sample; {name!r} stands in {counts[name]} rows"
            raise bad_row(row.path, row.number, allowed, setting=setting)
    return names


def _check_sides(data: LabelledConfig, train: Examples, valid: Examples, classes: tuple[str, ...]) -> None:
    faults = [_empty(setting) for setting, side in (("data.train", train), ("data.valid", valid)) if not len(side)]
    if data.task == "classification" and len(train):
        counts = np.bincount(train.targets, minlength=len(classes))
        empty = [name for name, count in zip(classes, counts, strict=True) if not count]
        if len(classes) - len(empty) < 2:
            there = ", ".join(name for name in classes if name not in empty)
            allowed = "two classes or more with training samples"
            faults.append(Fault("data.train.label", data.train.label, allowed, given=f"has the one class {there}"))
        elif empty:
            allowed = f"a training sample of every class; there is none of {', '.join(empty)}"
            faults.append(Fault("data.labels", data.labels or classes, allowed))
    if data.task == "regression" and len(train) and np.ptp(train.targets) == 0:
        given = f"is {train.targets[0]:g} in every row"
        faults.append(Fault("data.train.label", data.train.label, "numbers that differ", given=given))
    if faults:
        raise RefusedInput(faults)


def _empty(setting: str) -> Fault:
    allowed = "at least one sample on each side, none of them on both; give more rows or another valid.fraction"
    return Fault(setting, None, allowed, given="has no sample")


def _balanced(train: Examples, num_classes: int) -> NDArray[np.float64]:
    """[N] weights times N / (C n_c), n_c the weight of the sample's class: equal weight for each class, mean 1."""
    of_class = np.bincount(train.targets, weights=train.weights, minlength=num_classes)
    return train.weights * len(train) / (num_classes * of_class[train.targets])


def first_places(examples: Examples) -> NDArray[np.int64]:
    """[N] index of the first sample with the same text, or the same pair of texts."""
    hashes = np.array([text_hash(examples, place) for place in range(len(examples))], dtype=np.uint64)
    _, first, text = np.unique(hashes, return_index=True, return_inverse=True)
    return first[text]


def text_hash(examples: Examples, place: int) -> int:
    """Hash of a sample's text or pair of texts, without its label."""
    pair = "\0" + examples.pairs[place] if examples.pairs else ""
    return xxhash.xxh3_64_intdigest((examples.texts[place] + pair).encode())
