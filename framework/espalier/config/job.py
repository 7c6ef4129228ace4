"""The whole job file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Count, Name, parse_tuple
from espalier.config.data import DataConfig
from espalier.config.recipes import PruneThenDistill
from espalier.config.stages import StageConfig


class WorkersConfig(Config):
    """Processes that train side by side. `cpus_each` is also each one's number of threads."""

    count: Count = 1
    gpus_each: Literal[0, 1] = 0
    cpus_each: Count = 1


class WandbConfig(Config):
    """The mirror in Weights & Biases. `auto`: online when a key is found, otherwise offline."""

    project: str = "espalier"
    entity: str | None = None
    mode: Literal["auto", "online", "offline", "off"] = "auto"


class TrackingConfig(Config):
    wandb: WandbConfig = WandbConfig()


class RetryConfig(Config):
    """How often a stage is tried again after a failure that may pass (a lost worker or node)."""

    max_failures: Annotated[int, Field(ge=0)] = 3


class Job(Config):
    """One job. `recipe` makes the stages from a few dials; `stages` lists them; exactly one is given."""

    name: Name
    storage: Annotated[str, Field(pattern=r"^/")]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    resume: str = "auto"  # auto, never, or the folder of a checkpoint
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    retry: RetryConfig = RetryConfig()
    data: DataConfig
    recipe: PruneThenDistill | None = None
    stages: Annotated[tuple[StageConfig, ...], BeforeValidator(parse_tuple)] = ()

    @model_validator(mode="after")
    def _one_plan(self) -> Job:
        if (self.recipe is None) == (not self.stages):
            raise ValueError("give either `recipe` or `stages`")
        return self
