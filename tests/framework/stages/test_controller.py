"""The controller with a scripted runner that fails on demand."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.job import RetryConfig
from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.kinds.export.kind import ExportStage
from espalier.kinds.load.kind import LoadStage
from espalier.stages.controller import ExitCode, Progress, Surroundings, carry_out, decide
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control, Pulse
from espalier.stages.orders import StageOrder
from espalier.stages.plan import Plan, build_plan
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder

_CONFIGS = (
    LoadStage(name="parent", kind="load", model="/m"),
    EvaluateStage(name="score", kind="evaluate", model="parent"),
    ExportStage(name="out", kind="export", model="parent"),
)
RETRY = RetryConfig(max_failures=2, backoff_seconds=0.0)


def test_an_order_that_another_process_has_given_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.note_attempt(5)
    for late in (2, 5):
        with pytest.raises(RefusedInput, match="another process"):
            folder.note_attempt(late)
    assert folder.attempts() == 5


@pytest.mark.parametrize(("usual", "bound"), [(None, 7200.0), (1.0, 7200.0), (1000.0, 10000.0)])
def test_the_least_bound_holds_for_every_phase(usual: float | None, bound: float) -> None:
    assert Pulse("saving", 0.0, usual).bound_seconds(least=7200.0) == bound


def test_progress_within_a_phase_restarts_its_clock_and_records_no_duration() -> None:
    control = Control()
    control.beat("writing")
    time.sleep(0.05)
    for _ in range(20):
        control.alive()
    assert control.pulse().seconds < 0.04
    assert control.pulse().usual_seconds is None


def plan(**context: object) -> Plan:
    return build_plan(_CONFIGS, context=context)


def done(plan: Plan, name: str) -> StageResult:
    return StageResult(name, plan[name].config.kind, plan[name].key, "done", None)


class Scripted:
    """A runner that answers each stage with what it was told, in order; afterwards with success."""

    def __init__(self, plan: Plan, **script: list[StageFailed | StageResult]) -> None:
        self._plan, self._script = plan, script
        self.orders: list[tuple[str, int]] = []

    def run(self, order: StageOrder) -> StageResult:
        self.orders.append((order.stage, order.attempt))
        answers = self._script.get(order.stage)
        answer = answers.pop(0) if answers else done(self._plan, order.stage)
        if isinstance(answer, StageFailed):
            raise answer
        return answer

    def close(self) -> None:
        pass


def go(runner: Scripted, plan: Plan, results: dict[str, StageResult] | None = None) -> tuple[ExitCode, str]:
    stop = carry_out(plan, runner, run_folder="/run", earlier=Progress(results or {}), retry=RETRY)
    return stop.code, stop.reason


def test_runs_every_stage_once_in_order() -> None:
    runner = Scripted(plan())
    assert go(runner, plan())[0] is ExitCode.DONE
    assert runner.orders == [("parent", 1), ("score", 2), ("out", 3)]


def test_skips_what_is_done_and_repeats_what_depends_on_other_settings() -> None:
    old, new = plan(seed=1), plan(seed=2)
    runner = Scripted(old)
    go(runner, old, {"parent": done(old, "parent")})
    assert runner.orders == [("score", 1), ("out", 2)]
    runner = Scripted(new)
    go(runner, new, {"parent": done(old, "parent")})
    assert [name for name, _ in runner.orders] == ["parent", "score", "out"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_lost_worker_is_another_attempt(failures: int) -> None:
    lost = [StageFailed("worker_lost", "rank 1 died") for _ in range(failures)]
    runner = Scripted(plan(), score=list(lost))
    assert go(runner, plan())[0] is ExitCode.DONE
    assert runner.orders == [
        ("parent", 1),
        *(("score", attempt + 2) for attempt in range(failures + 1)),
        ("out", failures + 3),
    ]


def test_too_many_lost_workers_stop_the_run_resumable() -> None:
    runner = Scripted(plan(), score=[StageFailed("node_lost", "node 3 died") for _ in range(3)])
    code, reason = go(runner, plan())
    assert code is ExitCode.RESUMABLE and "node 3 died" in reason
    assert [name for name, _ in runner.orders] == ["parent", "score", "score", "score"]


def test_an_error_is_tried_again_once() -> None:
    runner = Scripted(plan(), score=[StageFailed("error", "shapes differ")])
    assert go(runner, plan())[0] is ExitCode.DONE
    twice = [StageFailed("error", f"worker {rank}: shapes differ", signature="step 7") for rank in (0, 1)]
    runner = Scripted(plan(), score=twice)
    assert go(runner, plan()) == (ExitCode.ERROR, "worker 1: shapes differ")
    assert len(runner.orders) == 3


def test_running_out_of_memory_twice_ends_the_run() -> None:
    failures = [StageFailed("out_of_memory", f"tried to allocate {size} GiB") for size in (2, 3)]
    assert go(Scripted(plan(), score=failures), plan())[0] is ExitCode.ERROR


@pytest.mark.parametrize(("cause", "code"), [("refused", 2), ("unstable", 1), ("lasting_error", 1), ("storage", 75)])
def test_failures_that_cannot_pass_are_not_retried(cause: str, code: int) -> None:
    runner = Scripted(plan(), score=[StageFailed(cause, "no")])
    assert go(runner, plan())[0] == code
    assert len(runner.orders) == 2


def test_preemptions_are_no_failures() -> None:
    runner = Scripted(plan(), score=[StageFailed("preempted", "the node goes") for _ in range(9)])
    assert go(runner, plan())[0] is ExitCode.DONE


def test_a_new_checkpoint_resets_the_count_of_failures() -> None:
    positions = iter(range(10, 100, 10))
    around = Surroundings(position=lambda stage: next(positions))
    runner = Scripted(plan(), score=[StageFailed("worker_lost", "gone") for _ in range(8)])
    stop = carry_out(plan(), runner, run_folder="/run", earlier=Progress({}), retry=RETRY, surroundings=around)
    assert stop.code is ExitCode.DONE


def test_pauses_grow_with_failures_in_a_row() -> None:
    retry, lost = RetryConfig(max_failures=99, backoff_seconds=2.0), StageFailed("worker_lost", "gone")
    progress, pauses = Progress({}), []
    for attempt in range(1, 8):
        progress = progress.after_failure(lost, attempt=attempt, position=0)
        pauses.append(decide(plan(), progress, retry).pause_seconds)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]


def test_a_stop_request_keeps_results_and_gives_no_more_orders() -> None:
    around = Surroundings()
    runner = Scripted(plan())
    around = Surroundings(on_event=lambda kind, stage, detail: stage.name == "score" and around.stop.set())
    stop = carry_out(plan(), runner, run_folder="/run", earlier=Progress({}), retry=RETRY, surroundings=around)
    assert stop.code is ExitCode.RESUMABLE
    assert [name for name, _ in runner.orders] == ["parent", "score"]


def test_a_stop_is_no_failure() -> None:
    runner = Scripted(plan(), score=[StageFailed("stopped", "asked to")])
    assert go(runner, plan())[0] is ExitCode.RESUMABLE


def test_a_gate_stops_this_run_and_the_next_without_running_it_again() -> None:
    failed = replace(done(plan(), "score"), status="gate_failed", metrics={"gate": "perplexity is 9"})
    runner = Scripted(plan(), score=[failed])
    code, reason = go(runner, plan())
    assert code is ExitCode.GATE_FAILED and "perplexity is 9" in reason
    runner = Scripted(plan())
    assert go(runner, plan(), {"parent": done(plan(), "parent"), "score": failed})[0] is ExitCode.GATE_FAILED
    assert runner.orders == []


def test_attempts_are_numbered_across_starts() -> None:
    runner = Scripted(plan())
    carry_out(plan(), runner, run_folder="/run", earlier=Progress({}, attempts=7), retry=RETRY)
    assert [attempt for _, attempt in runner.orders] == [8, 9, 10]
