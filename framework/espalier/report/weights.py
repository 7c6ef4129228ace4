"""The sample weights of a `correct` stage: their distribution over epochs, the largest ones, the suspect labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from espalier.report.charts import Axis, Band, Look, Series, line_chart, sparkline
from espalier.report.run import RunRecord
from espalier.report.validation import EPOCHS_AXIS, SMALL
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.number_format import count_text, number_text
from espalier.tracking.sample_reader import (
    Row,
    heaviest,
    listed_samples,
    read_list,
    sample_answers,
    sample_names,
    table_refused,
    trust_note,
    weight_column,
)

_SHOWN = 20
_LONGEST_TEXT = 500
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_MEASUREMENTS = (
    ("effective_share", "effective share of the samples"),
    ("agreement", "agreement with the signal"),
    ("alpha", "alpha, the step that raises"),
    ("distance", "distance from the teacher"),
)


@dataclass(frozen=True)
class ShownSample:
    """One row of a table of samples; unknown cells are empty. `weights` is a sparkline over the epochs."""

    name: str
    text: str
    pair: str
    label: str
    teacher: str
    student: str
    doubt: str
    weight: str
    weights: Markup


@dataclass(frozen=True)
class SampleWeights:
    """One stage's section of the report.

    Attributes:
        others: (title, chart) shown beside the weights.
        suspects: the samples whose labels have the lowest confidence.
        trust: a caution about the list of suspects; empty when none is needed.
        has_classes: whether predictions are right or wrong; those of a regression are only near or far.
    """

    stage: str
    caption: str
    chart: Markup
    others: tuple[tuple[str, Markup], ...]
    heaviest: tuple[ShownSample, ...]
    suspects: tuple[ShownSample, ...]
    has_classes: bool
    trust: str


def sample_weights(run: RunRecord, stage: str) -> SampleWeights | None:
    """The section of one stage; None before its first epoch has ended. One column is in memory at a time."""
    records = [one for one in run.epochs[stage] if one.samples and (run.folder / one.samples).exists()]
    if not records:
        return None
    listed = [int(row["sample"]) for row in read_list(run.folder, stage, "suspects", _SHOWN)]
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
    return SampleWeights(stage, caption, chart, tuple(charts), shown, suspects, has_classes, trust)


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
        text=_cut(values.get("text", "")),
        pair=_cut(values.get("pair", "")),
        label=values.get("label", ""),
        teacher=values["teacher"],
        student=values["student"],
        doubt=values.get("doubt", ""),
        weight=f"{weights[-1]:.3g}",
        weights=sparkline(weights, top=top),
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " …"
