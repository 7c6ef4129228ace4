"""The controller, driven by a scripted runner that fails on cue."""

from __future__ import annotations

from dataclasses import replace

import pytest

from espalier.config.stages import EvaluateStage, ExportStage, LoadStage
from espalier.stages.controller import ExitCode, Progress, carry_out
from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.plan import Plan, build_plan
from espalier.stages.result import StageResult

_CONFIGS = (
    LoadStage(name="parent", kind="load", model="/m"),
    EvaluateStage(name="score", kind="evaluate", model="parent"),
    ExportStage(name="out", kind="export", model="parent"),
)


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
    stop = carry_out(plan, runner, run_folder="/run", earlier=Progress(results or {}), max_failures=2)
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


def test_an_error_stops_at_once() -> None:
    runner = Scripted(plan(), score=[StageFailed("error", "shapes differ")])
    assert go(runner, plan()) == (ExitCode.ERROR, "shapes differ")
    assert len(runner.orders) == 2


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


def test_attempts_go_on_counting_where_an_earlier_start_stopped() -> None:
    runner = Scripted(plan())
    carry_out(plan(), runner, run_folder="/run", earlier=Progress({}, attempts=7), max_failures=2)
    assert [attempt for _, attempt in runner.orders] == [8, 9, 10]
