"""The heartbeats of a driver, and its end in the run's folder also where an exception ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from espalier.tracking.driver_file import DriverFile, DriverRecord
from espalier_cluster.told import outcome_of


@contextlib.contextmanager
def driver_file(
    folder: RunFolder,
    submission: str | None,
    options: tuple[str, ...],
    *,
    may_write: Callable[[], bool] = lambda: True,
) -> Iterator[DriverFile]:
    """Write heartbeats for the time of the block. The folder has to be claimed.

    Args:
        submission: whose driver this process is; None for a command of a person.
        options: of that command.
        may_write: whether the folder is still this process's.
    """
    number = 0
    with contextlib.suppress(OSError, RefusedInput):
        newest = Submissions(folder).newest()
        number = newest.number if newest else 0
    record = DriverRecord.of_this_process(submission=submission, num_submissions=number, options=options[:8])
    with DriverFile(folder, record, may_write=may_write) as file:
        try:
            yield file
        except BaseException as error:
            ended = outcome_of(error)
            file.end(ended.code, ended.reason)
            raise
