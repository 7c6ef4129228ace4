"""The data sets of a job by name, and their paths in the job file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from espalier.config.faults import RefusedInput
from espalier.config.format import DataSettings
from espalier.jobs.job import Job

DataSet = str | None
"""A name among `data_sets`; None is the job's `data`."""


def data_sets(job: Job) -> dict[DataSet, DataSettings]:
    """All data sections of a job."""
    return {None: job.data} | dict[DataSet, DataSettings](job.data_sets)


def data_path(name: DataSet) -> str:
    """The path of a data set in the job file."""
    return "data" if name is None else f"data_sets.{name}"


@contextmanager
def faults_of_data_set(name: DataSet) -> Iterator[None]:
    """Change the paths of faults raised inside from `data` to the data set's own."""
    try:
        yield
    except RefusedInput as refused:
        where = data_path(name)
        raise RefusedInput(
            replace(fault, path=where + fault.path.removeprefix("data")) if fault.path.startswith("data.") else fault
            for fault in refused.faults
        ) from refused.__cause__
