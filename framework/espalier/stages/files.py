"""Schemas of the small JSON files in a run's folder: run.json, plan.json, attempts, result.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from espalier.config.base import Record
from espalier.storage.names import Amount, CheckpointPath, Count, Key, StageName, TokenizerKey
from espalier.storage.records import Versioned

_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
_Id = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]

Attempts = Annotated[int, Field(ge=0, le=10**9)]
"""The content of the file `attempts`."""


class RunFile(Versioned):
    """`run.json`, which marks a folder as that of a run. Its schema version is that of the folder's layout, too."""

    run_id: _Id
    wandb_id: _Id
    created: str | float = ""
    versions: dict[str, str] = Field(default_factory=dict)


class PlanEntry(Record):
    """One stage of `plan.json`, which lists each stage after its inputs.

    Attributes:
        inputs: setting -> name of the stage that it refers to; the first one is the stage's parent.
        data: name of the data set that the stage works on; None for the job's `data`.
        shape: sizes of the resulting model, with `parameters`; empty for a stage without a model.
        code_version: of the espalier that made the plan; None when that version did not record it.
        texts: fingerprint of each split, so that workers need not read it; empty for formats that keep no tokens.
        reads: hashes of everything else that the key depends on; when one changes, the stage is repeated.
    """

    name: StageName
    kind: _Word = "stage"
    key: Key = ""
    code_version: int | None = None
    parent: StageName | None = None
    inputs: dict[str, StageName] = Field(default_factory=dict)
    data: StageName | None = None
    shape: dict[str, Count | bool] | None = None
    tokens: Count | None = None
    steps: Count | None = None
    flops: Amount | None = None
    texts: dict[Literal["train", "valid"], str] = Field(default_factory=dict)
    reads: dict[str, str] = Field(default_factory=dict)


class CostFile(Record):
    """See `Cost`."""

    tokens: Count = 0
    samples: Count = 0
    flops: Amount = 0.0
    seconds: Amount = 0.0
    peak_bytes: Count = 0


class ResultFile(Versioned):
    """`stages/<stage>/result.json`; see `StageResult`."""

    stage: StageName
    kind: _Word
    key: Key
    status: Literal["done", "gate_failed"]
    checkpoint: CheckpointPath | None
    metrics: dict[str, Any] = Field(default_factory=dict)
    cost: CostFile = CostFile()


class MeasuredModel(Record):
    """Sizes in the figures of a measured model."""

    parameters: Count = 0
    tokens: Count = 0


class MetricsOfModel(Record):
    """The entries of a result's metrics that other stages read."""

    tokenizer: TokenizerKey = ""
    parameters: Count = 0
    models: dict[str, MeasuredModel] = Field(default_factory=dict)
    watched: _Word | None = None
    model: StageName | None = None
    gate: str = ""
