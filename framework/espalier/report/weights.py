"""The sample weights of a `correct` stage: their distribution over epochs, the largest ones, the suspect labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from espalier.report.charts import Axis, Band, Look, Series, line_chart, sparkline
from espalier.report.run import RunRecord
from espalier.report.tables import Cell, Grid
from espalier.report.validation import EPOCHS_AXIS, SMALL
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.number_format import count_text, number_text
from espalier.tracking.sample_reader import (
    Row,
    heaviest,
    listed_samples,
    read_confused,
    read_list,
    sample_answers,
    sample_names,
    table_refused,
    trust_note,
    weight_column,
)

_SHOWN = 20
_FEW_CLASSES = 16
_OF_EACH_CLASS = 2  # rows where classes are many
_LISTED = 400  # rows that these are taken from
_LONGEST_TEXT = 2000
_FOLDED_FROM = 180  # letters: what is longer shows its beginning, and the rest on request
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_MEASUREMENTS = (
    ("effective_share", "effective share of the samples"),
    ("agreement", "agreement with the signal"),
    ("alpha", "alpha, the step that raises"),
    ("distance", "distance from the teacher"),
)


@dataclass(frozen=True)
class Folded:
    """A text: its beginning, and the rest, which is shown on request; empty when it is short."""

    beginning: str
    rest: str = ""

    @staticmethod
    def of(text: str) -> Folded:
        if len(text) <= _FOLDED_FROM:
            return Folded(text)
        cut = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " …"
        end = cut.rfind(" ", _FOLDED_FROM // 2, _FOLDED_FROM)
        place = end if end > 0 else _FOLDED_FROM
        return Folded(cut[:place], cut[place:])


@dataclass(frozen=True)
class ShownSample:
    """One row of a table of samples; unknown cells are empty. `weights` is a sparkline over the epochs."""

    name: str
    text: Folded
    pair: Folded
    label: str
    teacher: str
    probability: str
    student: str
    doubt: str
    why: str
    weight: str
    weights: Markup


@dataclass(frozen=True)
class SampleWeights:
    """One stage's section of the report.

    Attributes:
        others: (title, chart) shown beside the weights.
        suspects: the samples whose labels have the lowest confidence.
        confused: the classes that are taken for one another most often; None without a record of them.
        by_class: whether the suspects are a few of each class, because classes are many.
        trust: a caution about the list of suspects; empty when none is needed.
        has_classes: whether predictions are right or wrong; those of a regression are only near or far.
    """

    stage: str
    caption: str
    chart: Markup
    others: tuple[tuple[str, Markup], ...]
    heaviest: tuple[ShownSample, ...]
    suspects: tuple[ShownSample, ...]
    confused: Grid | None
    has_classes: bool
    by_class: bool
    trust: str


def sample_weights(run: RunRecord, stage: str) -> SampleWeights | None:
    """The section of one stage; None before its first epoch has ended. One column is in memory at a time."""
    records = [one for one in run.epochs[stage] if one.samples and (run.folder / one.samples).exists()]
    if not records:
        return None
    by_class = len(run.shown(stage).classes) > _FEW_CLASSES
    listed = _listed(run, stage, by_class=by_class)
    first = heaviest(_weights(run, records[-1]), _SHOWN)
    samples = np.array([*first, *listed], dtype=np.int64)
    looks = [_look_at(run, record, samples) for record in records]
    rows = _rows(run, records[-1], samples, np.array([look.weights for look in looks]))
    charts = [
        (title, _measurement_chart(records, name)) for name, title in _MEASUREMENTS if name in records[-1].correction
    ]
    caption = _caption(records, looks[-1].num_samples)
    chart = _picture(records, [look.quantiles for look in looks])
    has_classes = run.shown(stage).targets == "classes"
    shown, suspects = rows[: len(first)], rows[len(first) :]
    trust = trust_note(records[-1].correction)
    confused = _confused(run, stage)
    return SampleWeights(stage, caption, chart, tuple(charts), shown, suspects, confused, has_classes, by_class, trust)


def _listed(run: RunRecord, stage: str, *, by_class: bool) -> list[int]:
    """The suspects to show: the first of all, or of many classes the first of each, those of one class together."""
    rows = read_list(run.folder, stage, "suspects", _LISTED if by_class else _SHOWN)
    if not by_class:
        return [int(row["sample"]) for row in rows]
    of_class: dict[str, list[int]] = {}
    for row in rows:
        of_class.setdefault(row["label"], []).append(int(row["sample"]))
    most = [samples[:_OF_EACH_CLASS] for samples in list(of_class.values())[:_SHOWN]]
    return [sample for samples in most for sample in samples]


def _confused(run: RunRecord, stage: str) -> Grid | None:
    """The table of classes that are taken for one another, whatever their number."""
    rows = read_confused(run.folder, stage, _SHOWN)
    if not rows:
        return None
    most = max(int(row["samples"]) for row in rows)
    cells = tuple(
        (
            Cell(row["given"]),
            Cell(row["answered"]),
            Cell(row["samples"], share=int(row["samples"]) / max(most, 1)),
            Cell(f"{float(row['probability']):.2f}"),
            Cell(f"{float(row['noise']):.1%}"),
        )
        for row in rows
    )
    return Grid(("label", "answered", "samples", "mean probability", "assumed noise of the label"), cells)


def _caption(records: Sequence[EpochRecord], num_samples: int) -> str:
    last = records[-1].correction
    words = [f"{len(records)} epoch{'s' * (len(records) > 1)}", f"{count_text(num_samples)} samples"]
    if noise := last.get("noise"):
        words.append(f"{noise:.0%} of the labels look wrong")
    if (trust := last.get("heard", 1.0)) < 1.0:
        words.append(f"{trust:.0%} of the signal is trusted")
    return ", ".join(words)


@dataclass(frozen=True)
class _Look:
    """A summary of one epoch's weights: their quantiles, and the weights of a few samples."""

    num_samples: int
    quantiles: NDArray[np.float64]
    weights: NDArray[np.float32]


def _weights(run: RunRecord, record: EpochRecord) -> NDArray[np.float32]:
    return weight_column(run.folder / str(record.samples))


def _look_at(run: RunRecord, record: EpochRecord, samples: NDArray[np.int64]) -> _Look:
    weights = _weights(run, record)
    if len(weights) <= max(samples):
        reason = f"it has {len(weights)} rows, and sample {max(samples)} is asked for"
        raise table_refused(run.folder / str(record.samples), reason)
    return _Look(len(weights), np.quantile(weights, _QUANTILES), weights[samples])


def _picture(records: Sequence[EpochRecord], quantiles: Sequence[NDArray[np.float64]]) -> Markup:
    """Draw the median weight over the epochs, with bands between outer quantiles."""
    epochs = [record.epoch for record in records]
    columns = np.array(quantiles).T.tolist()
    bands = [Band(list(zip(epochs, columns[i], columns[-1 - i], strict=True))) for i in range(len(_QUANTILES) // 2)]
    median = Series("median", list(zip(epochs, columns[len(_QUANTILES) // 2], strict=True)))
    look = Look(660, 420, from_zero=True)
    return line_chart([median], EPOCHS_AXIS, Axis("weight", number_text), bands=bands, look=look)


def _measurement_chart(records: Sequence[EpochRecord], name: str) -> Markup:
    points = [(record.epoch, record.correction[name]) for record in records if name in record.correction]
    look = Look(SMALL.width, 140, from_zero=True)
    return line_chart([Series(name, points)], EPOCHS_AXIS, Axis("", number_text), look=look)


def _rows(
    run: RunRecord, record: EpochRecord, samples: NDArray[np.int64], weights: NDArray[np.float32]
) -> tuple[ShownSample, ...]:
    """The table rows of chosen samples, from the last epoch's record and the lists; weights: [epochs, samples]."""
    path, top = run.folder / str(record.samples), float(weights.max(initial=0.0))
    listed = listed_samples(run.folder, record.stage)
    names = sample_names(run.folder, record.stage, samples)
    classes = run.shown(record.stage).classes
    teacher, student = (sample_answers(path, side, samples, classes) for side in ("teacher", "student"))
    return tuple(
        _row(
            {"name": name, "teacher": taught or "", "student": answered or ""} | listed.get(int(sample), {}),
            over_epochs.tolist(),
            top,
        )
        for sample, name, taught, answered, over_epochs in zip(samples, names, teacher, student, weights.T, strict=True)
    )


def _row(values: Row, weights: Sequence[float], top: float) -> ShownSample:
    return ShownSample(
        name=values["name"],
        text=Folded.of(values.get("text", "")),
        pair=Folded.of(values.get("pair", "")),
        label=values.get("label", ""),
        teacher=values["teacher"],
        probability=values.get("probability", ""),
        student=values["student"],
        doubt=values.get("doubt", ""),
        why=values.get("why", ""),
        weight=f"{weights[-1]:.3g}",
        weights=sparkline(weights, top=top),
    )
