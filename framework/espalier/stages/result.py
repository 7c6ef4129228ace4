"""What a stage leaves behind, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from espalier.stages.files import ResultFile
from espalier.storage.records import SCHEMA


@dataclass(frozen=True)
class Cost:
    """What one stage used, over all workers and attempts that count.

    FLOPs are floating-point operations of matrix products, two per multiply-add; a teacher's forward passes,
    importance passes and evaluation are included. `peak_bytes` is the largest of any worker.
    """

    tokens: int = 0
    samples: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class StageResult:
    """The end of a stage: committed, immutable, written as JSON beside its checkpoint.

    Attributes:
        stage: the stage's name.
        key: hash of all that the result depends on; a result under the same key is used again.
        status: `gate_failed` when a measured value left its gate.
        checkpoint: folder of the committed model, relative to the run; None for a stage without one.
        metrics: what was measured, JSON values only.
    """

    stage: str
    kind: str
    key: str
    status: Literal["done", "gate_failed"]
    checkpoint: str | None
    metrics: dict[str, Any] = field(default_factory=dict)
    cost: Cost = Cost()

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA, **asdict(self)}

    @staticmethod
    def of(file: ResultFile) -> StageResult:
        """What a file says that has the schema of a result."""
        own = {name: getattr(file, name) for name in ("stage", "kind", "key", "status", "checkpoint", "metrics")}
        return StageResult(**own, cost=Cost(**file.cost.model_dump()))
