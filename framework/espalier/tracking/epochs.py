"""The run's record of the ends of epochs, `epochs.jsonl`, and the paths of the files about samples."""

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
"""Path of the record in a run's folder."""


@dataclass(frozen=True)
class EpochRecord:
    """The end of one epoch over labelled data.

    Attributes:
        epoch: 1-based within the stage.
        step: updates of the stage so far.
        global_step: 1-based over the run.
        time: unix seconds.
        metrics: of the model on the validation samples.
        correction: measurements of a `correct` stage: alpha, error, effective_share, agreement and more.
        samples: table with a row for each sample, relative to the run's folder; None when samples have no weights.
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
    """Writes the record. Only rank zero does so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        jsonl.prepare(path)

    def append(self, record: EpochRecord) -> None:
        jsonl.append(self._path, asdict(record))

    def rewind(self, stage: str, step: int) -> None:
        """Remove the epochs of `stage` that ended after `step`, because a resume from there repeats them."""
        values = jsonl.read(self._path)
        kept = [value for value in values if value.get("stage") != stage or not is_after(value, step)]
        if len(kept) < len(values):
            jsonl.rewrite(self._path, kept)


def read_epochs(path: Path) -> list[EpochRecord]:
    """Every completely written epoch, in order; empty when there is no file."""
    return jsonl.read_as(path, EpochRecord)


def final_epochs(path: Path, stage: str) -> list[EpochRecord]:
    """The epochs of one stage, each once, as it was last recorded."""
    return list({record.epoch: record for record in read_epochs(path) if record.stage == stage}.values())


def table_path(stage: str, epoch: int) -> Path:
    """Path of an epoch's table of samples in the run's folder."""
    return Path("records", "samples", stage, f"epoch-{epoch:04d}.parquet")


def names_path(stage: str) -> Path:
    """Path of the table of sample names in the run's folder; row i is sample i."""
    return Path("records", "samples", stage, "names.parquet")


def list_path(stage: str, name: Literal["suspects", "heaviest", "confused"]) -> Path:
    """Path of a list of samples with their texts, suspects (probable label errors) or heaviest (largest weights); or of
    the list of confused classes."""
    return Path("records", "samples", stage, f"{name}.csv")
