"""The run's record of the ends of epochs, and of what each sample then counted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from espalier.storage.names import Count, SamplesPath, StageName, Time
from espalier.tracking import jsonl
from espalier.tracking.record import is_after

EPOCHS = Path("records", "epochs.jsonl")
"""Where the record lies in a run's folder."""


@dataclass(frozen=True)
class EpochRecord:
    """The end of one epoch over labelled data.

    Attributes:
        epoch: 1-based within the stage.
        step: updates of the stage so far.
        global_step: 1-based over the run.
        time: unix seconds.
        metrics: of the model on the validation side.
        correction: what a `correct` stage revised: alpha, error, effective_share, agreement and more.
        samples: file with a row for each sample, relative to the run's folder; None where none are weighed.
    """

    stage: StageName
    epoch: Annotated[int, Field(ge=1, lt=2**63)]
    step: Count
    global_step: Count
    attempt: Count
    time: Time
    metrics: Mapping[str, float] = field(default_factory=dict)
    correction: Mapping[str, float] = field(default_factory=dict)
    samples: SamplesPath | None = None


class EpochLog:
    """Rank zero's hand on the record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        jsonl.prepare(path)

    def append(self, record: EpochRecord) -> None:
        jsonl.append(self._path, asdict(record))

    def rewind(self, stage: str, step: int) -> None:
        """Forget the epochs of `stage` that ended after `step`."""
        values = jsonl.read(self._path)
        kept = [value for value in values if value.get("stage") != stage or not is_after(value, step)]
        if len(kept) < len(values):
            jsonl.rewrite(self._path, kept)


def read_epochs(path: Path) -> list[EpochRecord]:
    """Every epoch that is wholly on disk, in order; none when there is no file."""
    return jsonl.read_as(path, EpochRecord)


def final_epochs(path: Path, stage: str) -> list[EpochRecord]:
    """Of one stage, each epoch once."""
    return list({record.epoch: record for record in read_epochs(path) if record.stage == stage}.values())


def table_path(stage: str, epoch: int) -> Path:
    """Where an epoch's samples stand, in the run's folder."""
    return Path("records", "samples", stage, f"epoch-{epoch:04d}.parquet")


def names_path(stage: str) -> Path:
    """Where the samples' own names stand: the row of a sample is its number."""
    return Path("records", "samples", stage, "names.parquet")


def list_path(stage: str, name: Literal["suspects", "heaviest"]) -> Path:
    """A list of samples with their texts: probable label errors, or those that count most."""
    return Path("records", "samples", stage, f"{name}.csv")
