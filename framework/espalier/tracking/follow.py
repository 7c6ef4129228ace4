"""Follow a run's record while it is written: new steps, epochs and events, and how many were taken back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from zlib import crc32

from espalier.storage.regular_file import open_regular
from espalier.tracking import jsonl
from espalier.tracking.epochs import EPOCHS, EpochRecord
from espalier.tracking.events import EVENTS, Event
from espalier.tracking.record import STEPS, StepRecord

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class News:
    """What the record gained since the last look.

    Attributes:
        steps: new steps, in order.
        events: new events, in order.
        epochs: new ends of epochs, in order. None is told later than the step that comes after it.
        num_forgotten_steps: how many steps told of earlier the record no longer has, because a resume took
            them back. They were the latest ones; `steps` comes after them.
        num_forgotten_epochs: the same of epochs.
    """

    steps: tuple[StepRecord, ...] = ()
    events: tuple[Event, ...] = ()
    epochs: tuple[EpochRecord, ...] = ()
    num_forgotten_steps: int = 0
    num_forgotten_epochs: int = 0


class Follower:
    """Returns each step, epoch and event of a run once. Starts no thread: the caller polls."""

    def __init__(self, run_folder: Path) -> None:
        self._steps = _Tail(run_folder / STEPS)
        self._events = _Tail(run_folder / EVENTS)
        self._epochs = _Tail(run_folder / EPOCHS)

    def poll(self) -> News:
        """Read on from the last poll; the first one tells all there is."""
        events = _known(self._events.read()[1], Event)  # first: a stage's start is known before its first step
        num_forgotten_steps, steps = self._steps.read()
        num_forgotten_epochs, epochs = self._epochs.read()  # last: an epoch is written before the step after it
        return News(
            steps=_known(steps, StepRecord),
            events=events,
            epochs=_known(epochs, EpochRecord),
            num_forgotten_steps=num_forgotten_steps,
            num_forgotten_epochs=num_forgotten_epochs,
        )


class _Tail:
    """New whole lines of a file that is appended to, and sometimes replaced by a shorter one after a resume."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last = b""
        self._hashes: list[int] = []

    def read(self) -> tuple[int, list[bytes]]:
        """How many of the lines told earlier are gone, and the new lines."""
        try:
            with open_regular(self._path) as file:
                goes_on = self._stands(file)
                file.seek(self._offset if goes_on else 0)
                data = file.read()
        except FileNotFoundError:
            goes_on, data = not self._hashes, b""
        except OSError:  # a network file system in between two states: the next poll sees one of them
            return 0, []
        found = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        num_kept = len(self._hashes) if goes_on else self._num_common(found)
        num_gone = len(self._hashes) - num_kept
        new = found if goes_on else found[num_kept:]
        if not goes_on:
            self._offset, self._last = 0, b""
        self._offset += sum(map(len, found))
        self._last = found[-1] if found else self._last
        self._hashes[num_kept:] = map(crc32, new)
        return num_gone, new

    def _stands(self, file: BinaryIO) -> bool:
        """Whether the line read last is still where it was. It carries its time: no other line equals it."""
        file.seek(self._offset - len(self._last))
        return file.read(len(self._last)) == self._last

    def _num_common(self, found: list[bytes]) -> int:
        pairs = zip(self._hashes, map(crc32, found), strict=False)
        return next(
            (place for place, (old, new) in enumerate(pairs) if old != new),
            min(len(self._hashes), len(found)),
        )


def _known(found: list[bytes], kind: type[Kind]) -> tuple[Kind, ...]:
    return tuple(value for line in found if (value := jsonl.parse_as(line, kind)) is not None)
