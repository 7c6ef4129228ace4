"""Weights & Biases as a tracker: its settings in the job file, and where its back-end is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.config.base import Config, Words
from espalier.jobs.tracker import TrackerKind

_WandbName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_. -]{1,128}$"),
    Words("at most 128 letters, digits, spaces, dots, dashes or underscores"),
]


class WandbConfig(Config):
    """Show the run in Weights & Biases. `auto`: online when a key is found, otherwise offline."""

    project: _WandbName = "espalier"
    entity: _WandbName | None = None
    mode: Literal["auto", "online", "offline", "off"] = "auto"


WANDB = TrackerKind(
    name="wandb",
    title="W&B",
    settings=WandbConfig,
    backend="espalier.tracking.wandb_tracker:WandbTracker",
    default=WandbConfig(),
    secrets=("WANDB_API_KEY",),
    look="espalier.tracking.wandb_access:look",
    sync={"mode": "online"},
)
