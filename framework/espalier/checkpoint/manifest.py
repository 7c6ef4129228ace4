"""What makes a folder a checkpoint: where every value lies, and what every file weighs and hashes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from espalier.checkpoint.fragments import Slot
from espalier.config.base import Record
from espalier.config.training import ZeroLevel
from espalier.storage.names import CheckpointPath, StageName, TokenizerKey

SCHEMA = 2
"""Raised when an older espalier could no longer read what is written: 2 has `bases`, and only what has some says 2."""

WholeNumber = Annotated[int, Field(ge=0)]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class DamagedCheckpoint(ValueError):
    """A folder that cannot be trusted as a checkpoint.

    Attributes:
        folder: as given.
        reasons: all that was found, one sentence each.
    """

    def __init__(self, folder: str, reasons: Iterable[str]) -> None:
        self.folder = folder
        self.reasons = tuple(reasons)
        super().__init__(f"checkpoint `{folder}` cannot be used: {'; '.join(self.reasons)}")

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:  # crosses Ray by pickling
        return DamagedCheckpoint, (self.folder, self.reasons)


class FileRecord(Record):
    """A file as it was written: its size, and XXH3 (128 bits, hex) of its content."""

    num_bytes: WholeNumber
    xxh3: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class TensorRecord(Record):
    """One tensor of one slot.

    Attributes:
        dtype: of every run.
        runs: (offset, length, file) each, by offset; `file` is a place in the sorted names of the manifest's
            files.
    """

    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    runs: tuple[tuple[WholeNumber, WholeNumber, WholeNumber], ...]


class Origin(Record):
    """Where a checkpoint comes from.

    Attributes:
        step: updates done in the stage.
        attempt: number of the try that wrote it. It only rises in the life of a run folder, so that a worker
            of an earlier try that wakes up late is told from its successor.
        world_size: ranks that wrote; nothing about reading depends on it, nor on `zero_level`.
        model: the model's configuration.
        tokenizer: key of the tokenizer that the model belongs to.
        parent: the checkpoint that this one was made from.
        created_unix_seconds: for people; nothing is ordered by it.
    """

    stage: StageName
    step: WholeNumber
    attempt: WholeNumber
    world_size: Annotated[int, Field(ge=1)]
    zero_level: ZeroLevel
    model: dict[str, Any]
    tokenizer: TokenizerKey | None = None
    parent: CheckpointPath | None = None
    created_unix_seconds: float = 0.0


class Base(Record):
    """A committed state of the same run that holds parameters which this one does not hold itself.

    Attributes:
        folder: of the state, in the place of the run's states, so that a run can be moved.
        xxh3: of its manifest, which in turn has those of its files.
    """

    folder: CheckpointPath
    xxh3: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Manifest(Record):
    """The whole of a checkpoint but for the values.

    Attributes:
        bases: where the values are that were not trained: of each parameter in the first of these that holds it
            itself. What a base stands on is listed here, too, so that nobody follows a chain.
        shapes: of every parameter of the model, by name, wherever its values are.
        beside: shapes of parameters that the stage trained along and that are no part of the model, by name; their
            values are here.
        tables: shapes of what a stage remembers of its samples, by name.
        tensors: per slot, per parameter or table. Without bases every parameter has its own value; moments may be
            absent.
        files: by name, in the checkpoint's folder.
        state: JSON values that resuming needs: data position, tokens seen, W&B id and the like.
    """

    schema_version: Literal[1, 2] = 1
    origin: Origin
    bases: tuple[Base, ...] = ()
    shapes: dict[str, tuple[Annotated[int, Field(ge=1)], ...]]
    beside: dict[str, tuple[Annotated[int, Field(ge=1)], ...]] = Field(default_factory=dict)
    tables: dict[str, tuple[WholeNumber, ...]] = Field(default_factory=dict)
    tensors: dict[Slot, dict[str, TensorRecord]]
    files: dict[FileName, FileRecord]
    state: dict[str, Any]

    def faults(self) -> list[str]:
        """What does not fit together; nothing when listed files cover every tensor exactly once."""
        missing = [name for name in self.tables if name not in self.tensors.get("table", {})]
        missing += [name for name in self.beside if name not in self.tensors.get("parameter", {})]
        if not self.bases:
            missing += self.names_below
        found = [f"`{name}` has a shape but no values" for name in missing]
        for slot, records in self.tensors.items():
            for name, record in records.items():
                found += (f"{slot} `{name}` {fault}" for fault in self._record_faults(slot, name, record))
        return found

    @property
    def names_below(self) -> list[str]:
        """Parameters whose values are in a base."""
        own = self.tensors.get("parameter", {})
        return [name for name in self.shapes if name not in own]

    def shape(self, slot: Slot, name: str) -> tuple[int, ...] | None:
        """Of a tensor of this slot; None when there is none of this name."""
        return (self.tables if slot == "table" else self.shapes | self.beside).get(name)

    def _record_faults(self, slot: Slot, name: str, record: TensorRecord) -> Iterator[str]:
        shape = self.shape(slot, name)
        if shape is None:
            yield "has values but no shape"
            return
        if any(file >= len(self.files) for _, _, file in record.runs):
            yield "lies in a file that is not listed"
        yield from _cover_faults(record, math.prod(shape))


def _cover_faults(record: TensorRecord, num_values: int) -> Iterator[str]:
    end = 0
    for offset, length, _ in record.runs:
        if offset != end or length == 0:
            yield f"has {'an overlap' if offset < end else 'a hole'} at value {min(offset, end)}"
            return
        end += length
    if end != num_values:
        yield f"has {end} values where its shape asks for {num_values}"
