"""The training of a model as one curve of loss over tokens, FLOPs and seconds, across all stages that it came from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espalier.report.run import PlannedStage, RunRecord, read_run
from espalier.tracking.record import StepRecord

_WINDOW_SHARE, _FEWEST = 0.02, 5  # window of the running mean: a share of all steps, at least so many


@dataclass(frozen=True)
class Point:
    """The state of a training after a step; tokens, FLOPs and seconds are totals since its first step.

    Attributes:
        loss: on text or labels; NaN for a step without such a loss, which trained on a teacher's signal alone.
        whole: whether the step ran all layers of the model, so that the loss is the whole model's.
    """

    tokens: float
    flops: float
    seconds: float
    loss: float
    whole: bool = True


@dataclass(frozen=True)
class TrainingCurve:
    """The training of one model.

    Attributes:
        label: its name in a comparison.
        growths: the points at which the model was grown or pruned, each with a word for the new size.
        nll: on the validation text; None when it was not measured.
        measure: the unit of the loss.
        vocabulary: number of tokens of the model's vocabulary; 0 when the plan does not say.
    """

    label: str
    points: tuple[Point, ...]
    growths: tuple[tuple[Point, str], ...]
    nll: float | None
    measure: str = "nats per token"
    vocabulary: int = 0

    @property
    def final_loss(self) -> float | None:
        """Mean loss of the last steps of the final shape; None when none of them has a loss on text or labels."""
        smooth = self.smooth()
        return smooth[-1].loss if smooth else None

    def smooth(self) -> list[Point]:
        """The points since the last change of shape, each with the mean loss of the window of steps that ends there.

        Only full windows count, so that one low value does not pass for a mean; with fewer steps than a window, all
        of them form one. Empty when no step of this shape has a finite loss.
        """
        start = self.points.index(self.growths[-1][0]) + 1 if self.growths else 0
        points = [point for point in self.points[start:] if point.whole] or list(self.points[-1:])
        points = [point for point in points if math.isfinite(point.loss)]
        if not points:
            return []
        window = min(len(points), max(_FEWEST, round(_WINDOW_SHARE * len(self.points))))
        ends = range(window, len(points) + 1)
        means = [sum(point.loss for point in points[end - window : end]) / window for end in ends]
        return [Point(p.tokens, p.flops, p.seconds, loss) for p, loss in zip(points[window - 1 :], means, strict=True)]

    def reaches(self, loss: float) -> Point | None:
        """The first point whose smoothed loss is at most `loss`; None when there is none."""
        return next((point for point in self.smooth() if point.loss <= loss), None)


def read_training_curves(run_folders: Sequence[Path]) -> list[TrainingCurve]:
    """Read the curves of several runs; their labels are unique."""
    return [curve for folder in run_folders for curve in training_curves_of(read_run(folder), run_name=folder.name)]


def training_curves_of(run: RunRecord, *, run_name: str = "") -> list[TrainingCurve]:
    """One curve for each trained stage whose model no other stage trains further on the same data."""
    trained = [stage for stage in run.stages if stage.declared.moments == "made" and run.steps[stage.name]]
    continued = {before.name for stage in trained for before in _lineage(run, stage)[:-1]}
    last = [stage for stage in trained if stage.name not in continued]
    labels = [run_name if run_name and len(last) == 1 else f"{run_name}:{stage.name}".lstrip(":") for stage in last]
    return [_training_curve(run, stage, label) for stage, label in zip(last, labels, strict=True)]


def _training_curve(run: RunRecord, last: PlannedStage, label: str) -> TrainingCurve:
    points: list[Point] = []
    growths: list[tuple[Point, str]] = []
    before = Point(0, 0, 0, 0)
    for stage in _lineage(run, last):
        if stage.declared.reshapes:
            growths += [(points[-1], _size(stage))] if points else []
            before = _reshaped(run, stage, before)
        taken = list(_points(run, stage, before))
        before = taken[-1] if taken else before
        points += taken
    unit, vocabulary = run.shown(last.name).unit, last.shape.get("vocabulary", 0)
    return TrainingCurve(label, tuple(points), tuple(growths), _nll(run, last.name), unit, vocabulary)


def _reshaped(run: RunRecord, stage: PlannedStage, before: Point) -> Point:
    """Add the cost of growing or pruning, which counts as part of the training."""
    result = run.results.get(stage.name)
    if result is None:
        return before
    return replace(before, flops=before.flops + result.cost.flops, seconds=before.seconds + result.cost.seconds)


def _points(run: RunRecord, stage: PlannedStage, before: Point) -> Iterator[Point]:
    seconds, compared = before.seconds, run.shown(stage.name).loss
    for step in run.steps[stage.name]:
        seconds += step.step_seconds
        flops = before.flops + (step.flops or _share(run, step))
        loss = step.loss if step.kind == "train" else step.terms.get(compared, math.nan)
        yield Point(before.tokens + step.tokens, flops, seconds, loss, step.depth is None)


def _share(run: RunRecord, step: StepRecord) -> float:
    """Estimated FLOPs after a step, for records of older versions that did not record them."""
    result = run.results.get(step.stage)
    return result.cost.flops * step.step / step.num_steps if result else 0.0


def _lineage(run: RunRecord, stage: PlannedStage) -> list[PlannedStage]:
    """The stage and those that its model comes from, back to where it began to learn from this data."""
    chain = [stage]
    while chain[0].parent is not None and (parent := run.stage(chain[0].parent)) is not None:
        if parent.data != stage.data:
            break
        chain.insert(0, parent)
    return chain


def _size(stage: PlannedStage) -> str:
    if stage.declared.past != "grown":
        return stage.declared.past
    return f"{stage.shape['layers']} layers" if "layers" in stage.shape else stage.name


def _nll(run: RunRecord, stage: str) -> float | None:
    measured = (result.measured.models.get(stage) for result in run.results.values() if result.measured)
    return next((model["nll"] for model in measured if model and "nll" in model), None)
