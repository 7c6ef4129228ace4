"""`stop.json` in a run's folder: the wish that the driver of the run stops, wherever it is."""

from __future__ import annotations

import time

from pydantic import Field

from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import SubmissionId
from espalier.storage.names import Time
from espalier.storage.records import Versioned, read_record

FILE = "stop.json"

_MAX_BYTES = 2**16
_REMEDY = "a wish as `espalier stop` writes it; remove the file"


class StopWish(Versioned):
    """The wish.

    Attributes:
        submission: whose driver is meant; None: the driver that holds the run's lock and was not submitted.
        now: do not wait for the end of a step, and do not save.
        preempted: the driver's machine is taken away, and a scheduler starts the run again.
        asked: unix seconds, by the client's clock.
    """

    submission: SubmissionId | None = None
    now: bool = False
    preempted: bool = False
    asked: Time = Field(default_factory=time.time)


def read_wish(folder: RunFolder) -> StopWish | None:
    """The wish; None when there is none.

    Raises:
        RefusedInput: the file is not as `espalier stop` writes it.
    """
    return read_record(StopWish, folder.path / FILE, what="wish to stop", remedy=_REMEDY, max_bytes=_MAX_BYTES)


def write_wish(folder: RunFolder, wish: StopWish) -> None:
    folder.files.replace(FILE, wish.model_dump_json().encode())


def remove_wish(folder: RunFolder) -> None:
    folder.remove(FILE)
