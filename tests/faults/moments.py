"""Points at which a rank can be killed: every call of what a stage is made of, counted as it passes."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from espalier.checkpoint.read import StateReader
from espalier.engine.plain import PlainEngine
from espalier.engine.zero import ZeroEngine
from espalier.kinds.load import work as load
from espalier.kinds.prune import work as prune
from espalier.models.network import Network
from espalier.saving.host_staging import HostStaging
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier.training.records import StepRecorder

MID_STAGE, BOUNDARY, SURGERY, SAVE = "mid-stage", "boundary", "mid-surgery", "mid-save"
COLUMNS = (MID_STAGE, BOUNDARY, SURGERY, SAVE)

_ENGINE = ("accumulate", "update", "restore")
_CHANGES = ("write_bytes", "make_folder", "rename", "sync_folder", "remove")
_WATCHED: tuple[tuple[Any, str, str], ...] = (
    (Network, "forward", MID_STAGE),
    *((engine, name, MID_STAGE) for engine in (PlainEngine, ZeroEngine) for name in _ENGINE),
    (StepRecorder, "write", MID_STAGE),
    (StateReader, "read", MID_STAGE),
    (load, "write_model_files", MID_STAGE),
    (RunFolder, "write_result", BOUNDARY),
    (HostStaging, "take", SAVE),
    *((LocalStorage, name, SAVE) for name in _CHANGES),
)


@dataclass(frozen=True)
class Moment:
    """A kind of point: `name` is the call, `column` where the table counts a kill there."""

    stage: str
    column: str
    name: str


@dataclass
class Tripwire:
    """Counts the moments that a rank passes and ends it at one of them.

    Attributes:
        moment: at which this rank ends; None to let it live.
        ordinal: at which of them, from 0.
        epitaph: file that says where it ended.
        counts: moments passed.
    """

    moment: Moment | None
    ordinal: int
    epitaph: Path
    stage: str = ""
    kind: str = ""
    counts: Counter[Moment] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def passes(self, column: str, name: str, detail: str, *, last_act: Callable[[], object] = lambda: None) -> None:
        """One moment; does not return when it is the one. `last_act` is what was half done by then."""
        surgery = column == SAVE and self.kind == "prune"
        moment = Moment(self.stage, SURGERY if surgery else column, name)
        with self._lock:
            passed = self.counts[moment]
            self.counts[moment] += 1
        if moment == self.moment and passed == self.ordinal:
            last_act()
            self.epitaph.write_text(f"{self.stage}: {detail}, number {passed} ({threading.current_thread().name})")
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def watched(wire: Tripwire) -> Iterator[None]:
    """Inside, every call of the table above passes the wire before and after."""
    with ExitStack() as patches:
        for owner, name, column in _WATCHED:
            patches.enter_context(mock.patch.object(owner, name, _around(wire, owner, name, column)))
        patches.enter_context(mock.patch.object(prune, "pruned_tensors", _cutting(wire)))
        yield


def _around(wire: Tripwire, owner: Any, name: str, column: str) -> Callable[..., Any]:
    call = getattr(owner, name)

    def hooked(*arguments: Any, **named: Any) -> Any:
        what = f"{name} {arguments[1]}" if owner is LocalStorage else name
        wire.passes(column, name, f"before {what}")
        if name == "write_bytes":
            wire.passes(column, name, f"half-way through {what}", last_act=lambda: _write_half(*arguments))
        value = call(*arguments, **named)
        wire.passes(column, name, f"after {what}")
        return value

    return hooked


def _write_half(storage: LocalStorage, path: str, *parts: bytes | memoryview) -> None:
    whole = b"".join(parts)
    (storage.root / path).write_bytes(whole[: len(whole) // 2])


def _cutting(wire: Tripwire) -> Callable[..., Iterator[Any]]:
    pruned_tensors = prune.pruned_tensors

    def hooked(*arguments: Any) -> Iterator[Any]:
        for one in pruned_tensors(*arguments):
            wire.passes(SURGERY, "cut", f"cutting {one.new_name}")
            yield one

    return hooked
