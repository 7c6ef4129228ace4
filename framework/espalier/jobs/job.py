"""The whole job file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import LONGEST_NAME, Config, Count, Name, Words, parse_tuple
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.config.format import DataSettings
from espalier.config.formats import AnyData
from espalier.config.paths import Folder, Place, Resume
from espalier.config.training import BatchConfig
from espalier.jobs.kind import KINDS
from espalier.jobs.recipe import RECIPES
from espalier.jobs.stage import StageSettings
from espalier.jobs.tracker import tracking_settings
from espalier.jobs.trained_stage import TrainedStage

if TYPE_CHECKING:
    AnyStage = StageSettings
    AnyRecipe = Any
    TrackingConfig = Config
else:
    TrackingConfig = tracking_settings()
    AnyStage = Annotated[reduce(or_, (kind.settings for kind in KINDS.values())), Field(discriminator="kind")]
    AnyRecipe = Annotated[reduce(or_, (recipe.dials for recipe in RECIPES.values()), None), Field(discriminator="name")]


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LabelName = Annotated[
    str,
    Field(pattern=rf"^(?:[A-Za-z0-9.-]{{1,253}}/)?{_LABEL}$"),
    Words("the name of a label, as `team` or `ray.io/market-type`"),
]
LabelChoice = Annotated[
    str,
    Field(pattern=rf"^!?(?:{_LABEL}|in\({_LABEL}(?:, ?{_LABEL})*\))$", max_length=1000),
    Words("a value as `spot`, several as `in(spot, reserved)`, or `!` before either"),
]


class WorkersConfig(Config):
    """The worker processes."""

    count: Count = 1
    min: Count | None = None
    """The run goes on with as few as these when others are lost or busy, and takes more again; left out: `count`."""
    gpus_each: Annotated[int, Field(ge=0, le=1)] = 0
    cpus_each: Count = 1
    """CPUs and threads of each worker."""
    accelerator: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] | None = None
    """Only nodes with this type of GPU, as Ray calls it: `H100`, `A100`, `L4`."""
    labels: dict[LabelName, LabelChoice] = Field(default_factory=dict)
    """Only nodes with these labels (`ray start --labels`): a value, `in(a, b)`, or either with `!` before it."""

    @model_validator(mode="after")
    def _accelerators_are_gpus(self) -> WorkersConfig:
        if self.accelerator is not None and not self.gpus_each:
            allowed = "left out while workers.gpus_each is 0, or workers.gpus_each: 1"
            raise RefusedInput([Fault("accelerator", self.accelerator, allowed)])
        return self

    @property
    def fewest(self) -> int:
        """The smallest number of workers that the run goes on with."""
        return self.count if self.min is None else self.min

    @model_validator(mode="after")
    def _min_is_no_more_than_count(self) -> WorkersConfig:
        if self.fewest > self.count:
            raise RefusedInput([Fault("min", self.min, f"at most workers.count, {self.count}")])
        return self


_Seconds = Annotated[float, Field(ge=0.0, le=86400.0)]


class RetryConfig(Config):
    """Retries after failures that may be temporary: a lost worker or node, a hang, a first error."""

    max_failures: Annotated[int, Field(ge=0, le=10**6)] = 3
    """Consecutive failures of one stage without a completed step in between. Preemptions do not count."""
    backoff_seconds: _Seconds = 1.0
    """Pause before the first retry; doubled for each further one, up to a minute."""
    grace_seconds: _Seconds = 30.0
    """Time that a run which is told to stop has to finish a step and save."""
    hang_seconds: Annotated[float, Field(ge=1.0, le=86400.0)] = 10.0
    """A hang is silence of at least this, and of at least ten times the usual duration."""


def seed_name(name: str, seed: int) -> str:
    """The name of the run of one seed of a job."""
    return f"{name}-seed-{seed}"


class Job(Config):
    """One job. Its stages are listed in `stages` or made by a `recipe`; exactly one of them is given."""

    name: Name
    storage: Folder
    """Absolute; everything of the run lives under <storage>/<name>."""
    checkpoints: Place | None = None
    """Where the states are kept instead, under <checkpoints>/<name>: an absolute folder, or a URL as s3://bucket/runs."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Runs of this job under seed, seed + 1 and so on, side by side where there is room, compared at the end."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    resume: Resume = "auto"
    """auto, never, or the folder of a checkpoint."""
    shared_with: Literal["nobody", "group", "everybody"] = "nobody"
    """Who else may read the run's folder; applied when the folder is made, not later."""
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    retry: RetryConfig = RetryConfig()
    data: AnyData
    """The data of all stages that name none of `data_sets`: text, or with `task` labelled samples."""
    data_sets: dict[Name, AnyData] = Field(default_factory=dict)
    """Further data by name, for the `data` setting of stages: to pretrain on text and fine-tune on labels."""
    recipe: AnyRecipe = None
    stages: Annotated[tuple[AnyStage, ...], BeforeValidator(parse_tuple)] = ()

    @property
    def folder_mode(self) -> int:
        """The mode of the folders that this run makes; it protects the files in them."""
        return {"nobody": 0o700, "group": 0o750, "everybody": 0o755}[self.shared_with]

    @model_validator(mode="after")
    def _one_plan(self) -> Job:
        if self.recipe is None and not self.stages:
            raise RefusedInput([Fault("stages", None, "either a list of stages or a recipe")])
        if self.recipe is not None and self.stages:
            names = ", ".join(stage.name for stage in self.stages)
            raise RefusedInput([Fault("stages", names, "leave it out, as the recipe makes the stages")])
        return self

    @model_validator(mode="after")
    def _seeds_fit_the_name(self) -> Job:
        room = LONGEST_NAME - len(seed_name("", self.seed + self.seeds - 1))
        if self.seeds > 1 and len(self.name) > room:
            allowed = f"at most {room} characters, as the runs of its {self.seeds} seeds are called <name>-seed-<seed>"
            raise RefusedInput([Fault("name", self.name, allowed)])
        return self

    @model_validator(mode="after")
    def _workers_share_batches(self) -> Job:
        faults = []
        for path, batch in self._batches():
            for name, number in {"count": self.workers.count, "min": self.workers.fewest}.items():
                at_once = batch.microbatch_sequences * number
                if batch.sequences % at_once:
                    allowed = f"a multiple of {at_once}, microbatch_sequences times workers.{name}"
                    faults.append(Fault(f"{path}.sequences", batch.sequences, allowed))
                    break
        if faults:
            raise RefusedInput(faults)
        return self

    def worker_counts(self) -> tuple[int, ...]:
        """The numbers of workers, rising, that the run can go on with: those that share every batch evenly."""
        shares = [batch.sequences // batch.microbatch_sequences for _, batch in self._batches()]
        numbers = range(self.workers.fewest, self.workers.count + 1)
        return tuple(number for number in numbers if not any(share % number for share in shares))

    def data_of(self, stage: StageSettings) -> DataSettings:
        """The data that a stage works on."""
        return self.data if stage.data is None else self.data_sets[stage.data]

    @model_validator(mode="after")
    def _data_sets_are_there(self) -> Job:
        known = ", ".join(self.data_sets) or "this job has none"
        faults = [
            Fault(
                f"stages.{stage.name}.data",
                stage.data,
                f"one of data_sets: {known}",
                nearest(stage.data, self.data_sets),
            )
            for stage in self.stages
            if stage.data is not None and stage.data not in self.data_sets
        ]
        if faults:
            raise RefusedInput(faults)
        return self

    def _batches(self) -> Iterator[tuple[str, BatchConfig]]:
        if self.recipe is not None:
            yield "recipe.batch", self.recipe.batch
        for stage in self.stages:
            if isinstance(stage, TrainedStage):
                yield f"stages.{stage.name}.batch", stage.batch
