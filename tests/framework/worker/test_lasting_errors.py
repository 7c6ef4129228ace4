"""An error that the input alone decides is not tried again; one of a disk, a network or a later step is."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.config.faults import Fault, RefusedInput
from espalier.distributed.world import World
from espalier.evaluation.finite import NotFinite
from espalier.jobs.kind import StageKind
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.storage.contract import NotAsWritten
from espalier.worker import run_stage as worker
from espalier.worker.context import StageContext
from espalier.worker.failure import describe


def failure(monkeypatch: pytest.MonkeyPatch, error: Exception, *, after_steps: int = 0) -> StageFailed:
    """What becomes of an error in the work of a stage."""
    control = Control()
    control.num_steps = 7  # of an earlier order

    def work(context: Any) -> None:
        control.num_steps += after_steps
        raise error

    config, job = SimpleNamespace(kind="load"), SimpleNamespace(recipe=None)
    context = SimpleNamespace(config=config, job=job, times=SimpleNamespace(record=lambda *_: None))
    monkeypatch.setattr(StageContext, "open", staticmethod(lambda *_: context))
    monkeypatch.setattr(StageKind, "call", lambda kind, part: work)
    with pytest.raises(type(error)) as raised:
        worker.run_stage(StageOrder("/run", "one", 1), World(0, 1, torch.device("meta")), control)
    return describe(raised.value, where="stage one")


@pytest.mark.parametrize(
    "error",
    [
        IndexError("index 259 is out of bounds for axis 0 with size 259"),
        KeyError("lm_head.weight"),
        OverflowError("math range error"),
        ZeroDivisionError("division by zero"),
        TypeError("'NoneType' object is not subscriptable"),
        ValueError("Out of range float values are not JSON compliant: nan"),
        json.JSONDecodeError("Expecting value", "", 0),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        AttributeError("no attribute"),
        AssertionError("our own invariant"),
    ],
)
def test_an_error_before_the_first_step_is_not_retried(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failed = failure(monkeypatch, error)
    assert failed.cause == "lasting_error" and not failed.may_pass(None)
    assert type(error).__name__ in failed.message and "Traceback" in failed.detail


def test_an_error_after_a_step_is_retried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failure(monkeypatch, IndexError("index 259 is out of bounds"), after_steps=3)
    assert failed.cause == "error" and failed.may_pass(None) and not failed.may_pass(failed)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("reset by peer"),
        TimeoutError("timed out"),
        FileNotFoundError(2, "not there yet, on another host"),
        PermissionError(13, "a ticket that has run out"),
        RuntimeError("CUDA error: unspecified launch failure"),
        DamagedCheckpoint("stages/one/step-2", ["a file is short"]),
        NotAsWritten("fetched as something else"),
    ],
)
def test_an_error_of_disk_or_network_is_retried_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failed = failure(monkeypatch, error)
    assert failed.cause == "error" and failed.may_pass(None)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RefusedInput([Fault("data.train", None, "text")]), "refused"),
        (NotFinite("the mean loss is nan"), "unstable"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_kinds_that_have_a_name_keep_it(monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str) -> None:
    assert failure(monkeypatch, error).cause == cause
