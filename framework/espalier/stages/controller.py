"""What comes next: decided after every stage, by a pure function; carried out by a runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

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
    """Decision: carry out this stage."""

    stage: Stage
    attempt: int


@dataclass(frozen=True)
class Stop:
    """Decision: nothing more to do."""

    code: ExitCode
    reason: str


Decision = Run | Stop


@dataclass(frozen=True)
class Progress:
    """All that a decision depends on.

    Attributes:
        results: committed results by stage name, this run's and earlier ones'.
        attempts: orders given in the whole life of the run's folder; each order gets the next number, which tells
            its workers from late ones of an earlier order.
        failures: failed attempts of the stage under way.
        last_failure: why the last attempt failed; None after a success.
    """

    results: Mapping[str, StageResult]
    attempts: int = 0
    failures: int = 0
    last_failure: StageFailed | None = None


def decide(plan: Plan, progress: Progress, *, max_failures: int) -> Decision:
    """The next thing to do: the first stage without a valid result, another try at it, or the end."""
    failure = progress.last_failure
    if failure is not None:
        if failure.cause == "stopped":
            return Stop(ExitCode.RESUMABLE, failure.message)
        if not failure.retryable:
            return Stop(ExitCode.ERROR, failure.message)
        if progress.failures > max_failures:
            return Stop(ExitCode.RESUMABLE, f"{progress.failures} attempts failed; the last: {failure.message}")
    for stage in plan.stages:
        result = progress.results.get(stage.name)
        if result is None or result.key != stage.key:
            return Run(stage, attempt=progress.attempts + 1)
        if result.status == "gate_failed":
            return Stop(ExitCode.GATE_FAILED, f"stage {stage.name}: {result.metrics.get('gate', 'gate failed')}")
    return Stop(ExitCode.DONE, "all stages are done")


def carry_out(
    plan: Plan,
    runner: Runner,
    *,
    run_folder: str,
    earlier: Progress,
    max_failures: int,
    on_event: Callable[[str, Stage, object], None] = lambda name, stage, detail: None,
) -> Stop:
    """Follow decisions until one says stop.

    Args:
        earlier: what earlier starts of the same run left: results and the number of attempts.
        on_event: called with `stage_started` (attempt), `stage_finished` (result), `stage_failed` (failure).
    """
    progress = Progress(earlier.results, earlier.attempts)
    while isinstance(decision := decide(plan, progress, max_failures=max_failures), Run):
        stage = decision.stage
        on_event("stage_started", stage, decision.attempt)
        try:
            result = runner.run(StageOrder(run_folder, stage.name, decision.attempt))
        except StageFailed as failure:
            on_event("stage_failed", stage, failure)
            progress = Progress(progress.results, decision.attempt, progress.failures + 1, failure)
        else:
            assert result.key == stage.key, (result, stage)
            on_event("stage_finished", stage, result)
            progress = Progress({**progress.results, stage.name: result}, decision.attempt)
    return decision
