"""Follow a run's records while they are written: new steps, epochs and events, and how many a resume took back."""

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
    """What was added to a run's records since the last poll.

    Attributes:
        steps: new steps, in order.
        events: new events, in order.
        epochs: new ends of epochs, in order. None is returned in a later poll than the step that follows it.
        num_forgotten_steps: how many of the steps returned earlier a resume has removed. They were the latest
            ones; `steps` follow what is left.
        num_forgotten_epochs: the same for epochs.
    """

    steps: tuple[StepRecord, ...] = ()
    events: tuple[Event, ...] = ()
    epochs: tuple[EpochRecord, ...] = ()
    num_forgotten_steps: int = 0
    num_forgotten_epochs: int = 0


class Follower:
    """Returns each step, epoch and event of a run once. It starts no thread: the caller polls."""

    def __init__(self, run_folder: Path) -> None:
        self._steps = _Tail(run_folder / STEPS)
        self._events = _Tail(run_folder / EVENTS)
        self._epochs = _Tail(run_folder / EPOCHS)

    def poll(self) -> News:
        """Everything since the last poll; the first call returns all records."""
        events = _parsed(self._events.read()[1], Event)  # first, so that a stage's start comes before its first step
        num_forgotten_steps, steps = self._steps.read()
        num_forgotten_epochs, epochs = self._epochs.read()  # last: an epoch is written before the step after it
        return News(
            steps=_parsed(steps, StepRecord),
            events=events,
            epochs=_parsed(epochs, EpochRecord),
            num_forgotten_steps=num_forgotten_steps,
            num_forgotten_epochs=num_forgotten_epochs,
        )


class _Tail:
    """Reads new complete lines of a file that grows, and that a resume may replace by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last = b""
        self._hashes: list[int] = []

    def read(self) -> tuple[int, list[bytes]]:
        """How many of the lines returned earlier are gone, and the new lines."""
        try:
            with open_regular(self._path) as file:
                is_continued = self._is_continued(file)
                file.seek(self._offset if is_continued else 0)
                data = file.read()
        except FileNotFoundError:
            is_continued, data = not self._hashes, b""
        except OSError:  # a network file system in the middle of a change: the next poll sees the result
            return 0, []
        found = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        num_kept = len(self._hashes) if is_continued else self._num_common(found)
        num_gone = len(self._hashes) - num_kept
        new = found if is_continued else found[num_kept:]
        if not is_continued:
            self._offset, self._last = 0, b""
        self._offset += sum(map(len, found))
        self._last = found[-1] if found else self._last
        self._hashes[num_kept:] = map(crc32, new)
        return num_gone, new

    def _is_continued(self, file: BinaryIO) -> bool:
        """Whether the last line read is still at its place. Lines carry their time, so no two are equal."""
        file.seek(self._offset - len(self._last))
        return file.read(len(self._last)) == self._last

    def _num_common(self, found: list[bytes]) -> int:
        pairs = zip(self._hashes, map(crc32, found), strict=False)
        return next(
            (place for place, (old, new) in enumerate(pairs) if old != new),
            min(len(self._hashes), len(found)),
        )


def _parsed(found: list[bytes], kind: type[Kind]) -> tuple[Kind, ...]:
    return tuple(value for line in found if (value := jsonl.parse_as(line, kind)) is not None)
