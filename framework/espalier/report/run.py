"""Everything that a run's folder tells about it, finished or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from espalier.config.faults import RefusedInput
from espalier.jobs.kind import StageKind, shown_kind
from espalier.stages.files import PlanEntry
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.records import unreadable
from espalier.tracking.epochs import EPOCHS, EpochRecord, final_epochs
from espalier.tracking.events import EVENTS, Event, read_events
from espalier.tracking.follow import News
from espalier.tracking.goodput import Goodput, measure_goodput
from espalier.tracking.payload import class_names
from espalier.tracking.record import STEPS, StepRecord, read_steps
from espalier.tracking.stage_status import StageState, StageStatuses
from espalier.tracking.time_log import TIME, TimeEntry, read_time_log

ReportState = Literal["pending", "running", "stopped", "done", "failed", "gate failed"]


@dataclass(frozen=True)
class PlannedStage:
    """One entry of `plan.json`.

    Attributes:
        inputs: setting -> name of the stage it refers to; the first one is the model the stage goes on from.
        shape: sizes of the model that comes out, with `parameters`; empty for a stage without one.
        tokens, steps, flops: what it is expected to take; None where that says nothing.
    """

    name: str
    kind: str
    inputs: dict[str, str] = field(default_factory=dict)
    shape: dict[str, int] = field(default_factory=dict)
    tokens: int | None = None
    steps: int | None = None
    flops: float | None = None

    @property
    def declared(self) -> StageKind:
        """What its kind says of itself."""
        return shown_kind(self.kind)

    @property
    def has_model(self) -> bool:
        """Whether there is a model of it to show in the lineage."""
        return self.declared.makes_model or self.declared.exports

    @property
    def parent(self) -> str | None:
        return next(iter(self.inputs.values()), None)

    @staticmethod
    def of(entry: PlanEntry) -> PlannedStage:
        inputs, shape = dict(entry.inputs), dict(entry.shape or {})
        return PlannedStage(entry.name, entry.kind, inputs, shape, entry.tokens, entry.steps, entry.flops)


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder shows it. Whatever is not there yet is empty.

    Attributes:
        folder: where it lies; files with a row for each sample are read when they are shown.
        epochs: of each stage, each epoch once.
        goodput: where the time went up to the last thing told; None when no time was marked.
    """

    folder: Path
    job: dict[str, Any]
    run: dict[str, Any]
    stages: tuple[PlannedStage, ...]
    states: dict[str, ReportState]
    messages: dict[str, str]
    results: dict[str, StageResult]
    steps: dict[str, tuple[StepRecord, ...]]
    epochs: dict[str, tuple[EpochRecord, ...]]
    goodput: Goodput | None

    @property
    def watched(self) -> str | None:
        """The metric that decides about labelled data, if that is what the run is about."""
        data = self.job.get("data") or {}
        by_task = {"classification": "accuracy", "regression": "pearson"}
        return data.get("metric") or by_task.get(data.get("task"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, in order; empty where the job leaves that to the data."""
        return class_names(self.job.get("data") or {})

    def stage(self, name: str) -> PlannedStage | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    def root(self, name: str) -> PlannedStage | None:
        """The loaded model that stage `name` goes back to."""
        stage = self.stage(name)
        while stage is not None and stage.parent is not None:
            stage = self.stage(stage.parent)
        return stage

    def evaluations(self) -> list[StageResult]:
        """Those that are done, in the plan's order."""
        return [result for result in self.results.values() if result.metrics.get("models")]

    def evaluation(self) -> StageResult | None:
        """The last one that is done."""
        return next(reversed(self.evaluations()), None)


@contextmanager
def drawing(run_folder: Path) -> Iterator[None]:
    """Where a run is shown: values that have the right form and mean nothing end in a sentence.

    Raises:
        RefusedInput: naming the run's folder, where no file could be named.
    """
    try:
        yield
    except RefusedInput:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}"
        remedy = "the records of a run as espalier wrote them; somebody has changed one, so bring back a copy"
        raise unreadable(run_folder, what="run that can be shown", reason=reason, remedy=remedy) from error


def read_run(run_folder: Path) -> RunRecord:
    """Read what there is: only a folder that holds no plan shows nothing."""
    folder = RunFolder(run_folder)
    stages = _planned(folder.plan())
    names = [stage.name for stage in stages]
    results = folder.results(names)
    steps = read_steps(run_folder / STEPS)
    events = read_events(run_folder / EVENTS)
    statuses = StageStatuses(names)
    statuses.apply(News(steps=tuple(steps), events=tuple(events)))
    return RunRecord(
        folder=run_folder,
        job=folder.job_values(),
        run=folder.ids(),
        stages=stages,
        states={name: _state(results.get(name), statuses.by_stage[name].state) for name in names},
        messages={name: statuses.by_stage[name].message for name in names},
        results=results,
        steps={name: tuple(step for step in steps if step.stage == name) for name in names},
        epochs={name: tuple(final_epochs(run_folder / EPOCHS, name)) for name in names},
        goodput=_goodput(read_time_log(run_folder / TIME), [*events, *steps]),
    )


def _goodput(marks: list[TimeEntry], news: list[Event | StepRecord]) -> Goodput | None:
    """Not up to the present: a driver that was killed marked no end, and the page may be written days later."""
    return measure_goodput(marks, now=max(one.time for one in [*marks, *news])) if marks else None


def _planned(plan: tuple[PlanEntry, ...]) -> tuple[PlannedStage, ...]:
    stages: dict[str, PlannedStage] = {}
    for entry in plan:
        stage = PlannedStage.of(entry)
        if shown_kind(stage.kind).exports and not stage.shape and stage.parent in stages:
            stage = replace(stage, shape=stages[stage.parent].shape)  # the same model, written another way
        stages[stage.name] = stage
    return tuple(stages.values())


def _state(result: StageResult | None, recorded: StageState) -> ReportState:
    if result is not None:
        return "done" if result.status == "done" else "gate failed"
    return recorded if recorded in ("failed", "running", "stopped") else "pending"
