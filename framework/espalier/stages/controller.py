"""What comes next: decided after every stage, by a pure function; carried out by a runner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

from espalier.jobs.job import RetryConfig
from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.plan import Plan, Stage
from espalier.stages.result import StageResult


class ExitCode(IntEnum):
    """What scripts read. 75 is sysexits' EX_TEMPFAIL: run the same command again."""

    DONE = 0
    ERROR = 1
    REFUSED = 2
    GATE_FAILED = 3
    RESUMABLE = 75


class Runner(Protocol):
    """Carries out one stage on the workers."""

    def run(self, order: StageOrder) -> StageResult:
        """Run a stage to its end.

        Raises:
            StageFailed: it did not end; its cause says whether another try may help.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """Decision: carry out this stage, after a pause."""

    stage: Stage
    attempt: int
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Stop:
    """Decision: nothing more to do."""

    code: ExitCode
    reason: str


Decision = Run | Stop
_END = {"refused": ExitCode.REFUSED, "storage": ExitCode.RESUMABLE}  # how a failure that will not pass ends a run
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Progress:
    """All that a decision depends on.

    Attributes:
        results: committed results by stage name, this run's and earlier ones'.
        attempts: orders given in the whole life of the run's folder; each order gets the next number, which tells
            its workers from late ones of an earlier order.
        failures: failed attempts of the stage under way since it last gained a checkpoint; preemptions are none.
        last_failure: why the last attempt failed; None after a success.
        failure_before: why the one before it failed, of the same stage.
        position: updates in the newest checkpoint of the stage under way, when it last failed.
        is_stopping: somebody has asked the run to stop.
    """

    results: Mapping[str, StageResult]
    attempts: int = 0
    failures: int = 0
    last_failure: StageFailed | None = None
    failure_before: StageFailed | None = None
    position: int = 0
    is_stopping: bool = False

    def after_failure(self, failure: StageFailed, *, attempt: int, position: int) -> Progress:
        """An attempt failed, having brought its stage to `position`."""
        earlier = 0 if position > self.position else self.failures
        return replace(
            self,
            attempts=attempt,
            failures=earlier + (failure.cause != "preempted"),
            last_failure=failure,
            failure_before=self.last_failure,
            position=position,
        )


def decide(plan: Plan, progress: Progress, retry: RetryConfig) -> Decision:
    """The next thing to do: the first stage without a valid result, another try at it, or the end."""
    failure = progress.last_failure
    if failure is not None:
        if failure.cause == "stopped":
            return Stop(ExitCode.RESUMABLE, failure.message)
        if not failure.may_pass(progress.failure_before):
            return Stop(_END.get(failure.cause, ExitCode.ERROR), failure.message)
        if progress.failures > retry.max_failures:
            return Stop(ExitCode.RESUMABLE, f"{progress.failures} attempts failed; the last: {failure.message}")
    for stage in plan.stages:
        result = progress.results.get(stage.name)
        if result is None or result.key != stage.key:
            if progress.is_stopping:
                return Stop(ExitCode.RESUMABLE, f"asked to stop before stage {stage.name}")
            return Run(stage, progress.attempts + 1, _pause_seconds(progress, retry))
        if result.status == "gate_failed":
            return Stop(ExitCode.GATE_FAILED, f"stage {stage.name}: {result.metrics.get('gate', 'gate failed')}")
    return Stop(ExitCode.DONE, "all stages are done")


def _pause_seconds(progress: Progress, retry: RetryConfig) -> float:
    """Doubled with every failure in a row: a cluster that is going down is not helped by haste."""
    return min(retry.backoff_seconds * 2 ** (progress.failures - 1), _LONGEST_PAUSE) if progress.failures else 0.0


@dataclass(frozen=True)
class Surroundings:
    """What the controller is told by, and tells, the process that it runs in.

    Attributes:
        stop: set when the run is to stop; stages that are done stay done.
        position: updates in the newest checkpoint of a stage.
        on_event: called with `stage_started` (attempt), `stage_finished` (result), `stage_failed` (failure).
    """

    stop: threading.Event = field(default_factory=threading.Event)
    position: Callable[[Stage], int] = lambda stage: 0
    on_event: Callable[[str, Stage, object], None] = lambda name, stage, detail: None


def carry_out(
    plan: Plan,
    runner: Runner,
    *,
    run_folder: str,
    earlier: Progress,
    retry: RetryConfig,
    surroundings: Surroundings | None = None,
) -> Stop:
    """Follow decisions until one says stop.

    Args:
        earlier: what earlier starts of the same run left: results and the number of attempts.
    """
    around = surroundings or Surroundings()
    on_event = around.on_event
    progress = Progress(earlier.results, earlier.attempts)
    while isinstance(decision := decide(plan, progress, retry), Run):
        stage = decision.stage
        if around.stop.wait(decision.pause_seconds):
            progress = replace(progress, is_stopping=True, last_failure=None)
            continue
        on_event("stage_started", stage, decision.attempt)
        try:
            result = runner.run(StageOrder(run_folder, stage.name, decision.attempt))
        except StageFailed as failure:
            on_event("stage_failed", stage, failure)
            position = around.position(stage)
            progress = progress.after_failure(failure, attempt=decision.attempt, position=position)
        else:
            assert result.key == stage.key, (result, stage)
            on_event("stage_finished", stage, result)
            progress = Progress({**progress.results, stage.name: result}, decision.attempt)
    return decision
