"""A worker whose driver's node does not answer any more saves and ends, and one that is answered goes on."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from espalier.stages.heartbeats import Control
from espalier_cluster import worker_loop


class Ended(BaseException):
    """The process ends."""


@pytest.fixture
def silent_node(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A node that answers when `answers_at` is reached; `now` is the time."""
    node: dict[str, Any] = {"now": 100.0, "answers_at": float("inf")}

    def wait(answers: list[object], *, timeout: float) -> tuple[list[object], list[object]]:
        node["now"] += timeout
        return (answers, []) if node["now"] >= node["answers_at"] else ([], answers)

    def end(code: int) -> None:
        node["code"] = code
        raise Ended

    stand_in = SimpleNamespace(wait=wait, get=lambda answer: answer)
    monkeypatch.setattr(worker_loop, "ray", stand_in)
    monkeypatch.setattr(worker_loop, "time", SimpleNamespace(monotonic=lambda: node["now"]))
    monkeypatch.setattr(os, "_exit", end)
    return node


def test_a_worker_without_a_driver_saves_and_ends_before_another_driver_can_take_over(
    silent_node: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    control = Control()
    control.preempted.set = lambda: silent_node.setdefault("saved_at", silent_node["now"])  # type: ignore[assignment]
    with pytest.raises(Ended):
        worker_loop._await_answer("go on", control)  # type: ignore[arg-type]
    saved_at = silent_node["saved_at"]
    assert 15 < saved_at - 100 < silent_node["now"] - 100 < 50 and silent_node["code"] == 1
    assert not control.stop.is_set(), "that would end the run if the node came back"
    assert "has not answered" in capsys.readouterr().out


def test_a_node_that_is_away_for_some_seconds_is_waited_for(silent_node: dict[str, Any]) -> None:
    control = Control()
    silent_node["answers_at"] = 115.0
    assert worker_loop._await_answer("stop", control) == "stop"  # type: ignore[arg-type]
    assert not control.preempted.is_set()
