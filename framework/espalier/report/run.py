"""Read everything that a run's folder holds about the run, finished or not, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from espalier.config.faults import RefusedInput
from espalier.config.format import ShownData
from espalier.config.formats import shown_data
from espalier.jobs.kind import StageKind, shown_kind
from espalier.stages.files import PlanEntry
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.records import unreadable
from espalier.tracking.epochs import EPOCHS, EpochRecord, final_epochs
from espalier.tracking.events import EVENTS, Event, read_events
from espalier.tracking.follow import News
from espalier.tracking.goodput import Goodput, measure_goodput
from espalier.tracking.record import STEPS, StepRecord, read_steps
from espalier.tracking.stage_status import StageState, StageStatuses
from espalier.tracking.time_log import TIME, TimeEntry, read_time_log

ReportState = Literal["pending", "running", "stopped", "done", "failed", "gate failed"]


@dataclass(frozen=True)
class PlannedStage:
    """One entry of `plan.json`.

    Attributes:
        inputs: setting -> name of the stage that it refers to; the first one is the stage's parent.
        shape: sizes of the resulting model, with `parameters`; empty for a stage without a model.
        tokens, steps, flops: expected cost; None for a stage without steps.
    """

    name: str
    kind: str
    inputs: dict[str, str] = field(default_factory=dict)
    shape: dict[str, int] = field(default_factory=dict)
    tokens: int | None = None
    steps: int | None = None
    flops: float | None = None
    data: str | None = None

    @property
    def declared(self) -> StageKind:
        """The declaration of its kind."""
        return shown_kind(self.kind)

    @property
    def has_model(self) -> bool:
        """Whether the stage yields a model, which the lineage shows."""
        return self.declared.makes_model or self.declared.exports

    @property
    def parent(self) -> str | None:
        return next(iter(self.inputs.values()), None)

    @staticmethod
    def of(entry: PlanEntry) -> PlannedStage:
        inputs, shape = dict(entry.inputs), dict(entry.shape or {})
        return PlannedStage(entry.name, entry.kind, inputs, shape, entry.tokens, entry.steps, entry.flops, entry.data)


@dataclass(frozen=True)
class RunRecord:
    """Everything that is known of a run. What does not exist yet is empty.

    Attributes:
        folder: of the run; tables with a row for each sample are read when they are shown.
        epochs: of each stage, each epoch once.
        goodput: of the time up to the last record; None without a time log.
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

    def data_of(self, stage: str) -> dict[str, Any]:
        """The data section that a stage works on, as the job gives it; empty when it gives none."""
        planned = self.stage(stage)
        if planned is None or planned.data is None:
            return self.job.get("data") or {}
        return (self.job.get("data_sets") or {}).get(planned.data) or {}

    def shown(self, stage: str) -> ShownData:
        """How the data of a stage is shown, by its format."""
        return shown_data(self.data_of(stage))

    def stage(self, name: str) -> PlannedStage | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    def root(self, name: str) -> PlannedStage | None:
        """The stage that loaded the model from which stage `name` descends."""
        stage = self.stage(name)
        while stage is not None and stage.parent is not None:
            stage = self.stage(stage.parent)
        return stage

    def evaluations(self) -> list[StageResult]:
        """The results of finished evaluations, in the plan's order."""
        return [result for result in self.results.values() if result.measured is not None]

    def evaluation(self) -> StageResult | None:
        """The result of the last finished evaluation."""
        return next(reversed(self.evaluations()), None)


@contextmanager
def damage_refused(run_folder: Path) -> Iterator[None]:
    """Turn exceptions while drawing a run, caused by valid JSON with impossible values, into `RefusedInput`.

    Raises:
        RefusedInput: naming the run's folder, because the file is not known.
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
    """Read whatever exists of a run; a folder without a plan gives an empty record."""
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


def _goodput(entries: list[TimeEntry], records: list[Event | StepRecord]) -> Goodput | None:
    """The goodput up to the last record, and not up to now: a killed driver wrote no end, maybe days ago."""
    times = [*(entry.time for entry in entries), *(record.time for record in records)]
    return measure_goodput(entries, now=max(times)) if entries else None


def _planned(plan: tuple[PlanEntry, ...]) -> tuple[PlannedStage, ...]:
    stages: dict[str, PlannedStage] = {}
    for entry in plan:
        stage = PlannedStage.of(entry)
        if shown_kind(stage.kind).exports and not stage.shape and stage.parent in stages:
            stage = replace(stage, shape=stages[stage.parent].shape)  # an export has its parent's shape
        stages[stage.name] = stage
    return tuple(stages.values())


def _state(result: StageResult | None, recorded: StageState) -> ReportState:
    if result is not None:
        return "done" if result.status == "done" else "gate failed"
    return recorded if recorded in ("failed", "running", "stopped") else "pending"
