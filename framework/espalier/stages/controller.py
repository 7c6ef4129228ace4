"""The controller: after every stage a pure function decides the next step, and a runner carries it out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

from espalier.jobs.job import RetryConfig
from espalier.stages.failures import StageFailed
from espalier.stages.orders import StageOrder
from espalier.stages.plan import Plan, Stage
from espalier.stages.result import StageResult


class ExitCode(IntEnum):
    """Exit codes of the command. 75 is EX_TEMPFAIL of sysexits.h: running the same command again may succeed."""

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
            StageFailed: there is no result; its cause says whether another attempt may help.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """Decision: run this stage, after a pause."""

    stage: Stage
    attempt: int
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Stop:
    """Decision: end the run."""

    code: ExitCode
    reason: str


Decision = Run | Stop
# Exit codes of failures that are not retried; all others end with ERROR.
_END = {
    "refused": ExitCode.REFUSED,
    "storage": ExitCode.RESUMABLE,
}
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Progress:
    """Everything that a decision depends on.

    Attributes:
        results: stage name -> committed result, also of earlier starts.
        attempts: orders ever given in this run's folder. Each order gets the next number, which tells its workers
            from late ones of an earlier order.
        failures: failed attempts of the current stage since it last gained a checkpoint, without preemptions and
            changes of the number of workers.
        last_failure: of the last attempt; None after a success.
        failure_before: of the attempt before it, at the same stage.
        position: updates in the newest checkpoint of the current stage when it last failed.
        is_stopping: the user has asked the run to stop.
    """

    results: Mapping[str, StageResult]
    attempts: int = 0
    failures: int = 0
    last_failure: StageFailed | None = None
    failure_before: StageFailed | None = None
    position: int = 0
    is_stopping: bool = False

    def after_failure(self, failure: StageFailed, *, attempt: int, position: int) -> Progress:
        """The progress after a failed attempt, whose stage has a checkpoint at update `position`."""
        earlier = 0 if position > self.position else self.failures
        return replace(
            self,
            attempts=attempt,
            failures=earlier + (failure.cause not in ("preempted", "resized")),
            last_failure=failure,
            failure_before=self.last_failure,
            position=position,
        )


def decide(plan: Plan, progress: Progress, retry: RetryConfig) -> Decision:
    """Decide what to do next: run the first stage without a valid result, retry it, or stop."""
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
            return Stop(ExitCode.GATE_FAILED, f"stage {stage.name}: {result.gate or 'gate failed'}")
    return Stop(ExitCode.DONE, "all stages are done")


def _pause_seconds(progress: Progress, retry: RetryConfig) -> float:
    """Exponential backoff: the pause doubles with every failure in a row."""
    return min(retry.backoff_seconds * 2 ** (progress.failures - 1), _LONGEST_PAUSE) if progress.failures else 0.0


@dataclass(frozen=True)
class Surroundings:
    """What connects the controller with its process.

    Attributes:
        stop: set when the run has to stop; finished stages keep their results.
        position: returns the updates in the newest checkpoint of a stage.
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
    """Run stages until a decision says stop.

    Args:
        earlier: results and number of attempts of earlier starts of the same run.
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
