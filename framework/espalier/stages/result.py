"""The result of a stage and its cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from espalier.stages.files import ResultFile
from espalier.storage.records import SCHEMA


@dataclass(frozen=True)
class Cost:
    """The cost of one stage over all workers, without lost work.

    FLOPs count matrix products, two per multiply-add; a teacher's forward passes, importance passes and evaluation are
    included. `peak_bytes` is the largest peak memory of any worker.
    """

    tokens: int = 0
    samples: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Measurements:
    """What a stage has measured of models, beside one another.

    Attributes:
        model: the one that the stage is about.
        models: by name; figures of text (`nll`, `perplexity`) or the metrics of labelled data, and size and cost.
        watched: the metric that decides on labelled data; None for text.
        gap_closed: the share of what pruning lost that was regained, in log-perplexity; None where nothing says.
    """

    model: str
    models: dict[str, dict[str, Any]]
    watched: str | None = None
    gap_closed: float | None = None

    @property
    def deciding(self) -> str:
        """The figure to compare models by."""
        return self.watched or "perplexity"


@dataclass(frozen=True)
class StageResult:
    """The committed result of a stage, written as JSON beside its checkpoint and never changed.

    Attributes:
        stage: the stage's name.
        key: hash of everything that the result depends on; a result with the same key is reused.
        status: `gate_failed` when a measured value left its bounds.
        checkpoint: folder of the committed model, relative to the run; None for a stage without a model.
        metrics: measurements, JSON values only.
    """

    stage: str
    kind: str
    key: str
    status: Literal["done", "gate_failed"]
    checkpoint: str | None
    metrics: dict[str, Any] = field(default_factory=dict)
    cost: Cost = Cost()

    @property
    def measured(self) -> Measurements | None:
        """Of a stage that measures models; None for any other."""
        models: dict[str, dict[str, Any]] = self.metrics.get("models") or {}
        if not models:
            return None
        model = self.metrics.get("model") or next(iter(models))
        return Measurements(model, models, self.metrics.get("watched"), self.metrics.get("gap_closed"))

    @property
    def tokenizer(self) -> str:
        """Key of the tokenizer that a stage has brought into the run; empty for a stage that brings none."""
        return str(self.metrics.get("tokenizer", ""))

    @property
    def gate(self) -> str:
        """Which bounds a measured value has left; empty where none."""
        return str(self.metrics.get("gate", ""))

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA, **asdict(self)}

    @staticmethod
    def of(file: ResultFile) -> StageResult:
        """The result in a file that has been validated."""
        own = {name: getattr(file, name) for name in ("stage", "kind", "key", "status", "checkpoint", "metrics")}
        return StageResult(**own, cost=Cost(**file.cost.model_dump()))
