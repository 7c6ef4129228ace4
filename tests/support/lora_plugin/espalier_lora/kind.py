"""Stage kind `lora`: train low-rank adapters of a model's matrices, and add them to the model at the end."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from espalier.config.base import Count, parse_tuple
from espalier.config.training import Pattern
from espalier.jobs.kind import StageKind
from espalier.jobs.trained_stage import TrainedStage


class LoraStage(TrainedStage):
    """Train low-rank adapters of some matrices; of the model itself only what `tune` says."""

    kind: Literal["lora"]
    rank: Count = 8
    alpha: Annotated[float, Field(gt=0.0, le=1e4)] = 16.0
    """An adapter counts alpha / rank."""
    targets: Annotated[tuple[Pattern, ...], BeforeValidator(parse_tuple)] = ("*.q_proj.*", "*.v_proj.*", "*.c_attn.*")
    """The matrices that are adapted."""


KIND = StageKind(
    name="lora",
    settings=LoraStage,
    work="espalier_lora.work:run",
    trains="espalier_lora.trained:trained_part",
    formats=("text", "labelled"),
    preview="espalier.planning.training_preview:preview",
    moments="made",
    past="adapted",
)


def is_target(name: str, settings: LoraStage) -> bool:
    """Whether a matrix of this name is adapted."""
    return any(fnmatchcase(name, pattern) for pattern in settings.targets)
