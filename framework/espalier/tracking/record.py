"""The run's record of its steps, `steps.jsonl`, from which trackers, terminal and report are fed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from espalier.storage.names import Amount, Count, StageName, Time
from espalier.tracking import jsonl

STEPS = Path("records", "steps.jsonl")
"""Path of the record in a run's folder."""

_FLOATS = ("time", "loss", "lr", "gradient_norm", "step_seconds", "tokens_per_second")


@dataclass(frozen=True)
class StepRecord:
    """One optimizer update, over all workers.

    Attributes:
        stage: the stage's name.
        kind: the stage's kind.
        step: 1-based within the stage, of `num_steps`.
        global_step: 1-based over the run.
        attempt: 1-based try at the stage.
        time: unix seconds at the end of the step.
        loss: weighted sum of the terms, mean over the counted tokens of the step.
        terms: each term of the loss, unweighted, mean over the same tokens.
        lr: learning rate of this update.
        gradient_norm: L2 norm over all parameters, before clipping.
        tokens: tokens of the stage up to and with this step.
        step_seconds: wall-clock time of the step.
        tokens_per_second: of this step, over all workers.
        peak_bytes: largest memory of any worker so far in this stage.
        flops: of the stage up to and with this step.
        depth: mean number of layers that the step's microbatches ran; None where it is the model's own.
    """

    stage: StageName
    kind: str
    step: Count
    num_steps: Annotated[int, Field(ge=1, lt=2**63)]
    global_step: Count
    attempt: Count
    time: Time
    loss: float
    terms: Mapping[str, float]
    lr: float
    gradient_norm: float
    tokens: Count
    step_seconds: float
    tokens_per_second: float
    peak_bytes: Count
    flops: Amount = 0.0
    depth: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values; NaN and infinity, which JSON does not have, become strings."""
        value = {**asdict(self), "terms": {name: _encoded(term) for name, term in self.terms.items()}}
        return value | {name: _encoded(value[name]) for name in _FLOATS}


class StepLog:
    """Writes the record. Only rank zero does so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        jsonl.prepare(path)

    def append(self, record: StepRecord) -> None:
        """Append one step; when this returns the operating system has it."""
        jsonl.append(self._path, record.to_json())

    def rewind(self, stage: str, step: int) -> None:
        """Remove the steps of `stage` after `step`, because a resume from there takes them again."""
        values = jsonl.read(self._path)
        kept = [value for value in values if value.get("stage") != stage or not is_after(value, step)]
        if len(kept) < len(values):
            jsonl.rewrite(self._path, kept)


def read_steps(path: Path) -> list[StepRecord]:
    """Every completely written step, in order; empty when there is no file."""
    return jsonl.read_as(path, StepRecord)


def is_after(value: dict[str, Any], step: int) -> bool:
    """Whether a line is of a step after `step`; False for a line without a step number."""
    return isinstance(value.get("step"), int) and value["step"] > step


def _encoded(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
