"""Preview a plan: models, steps, cost and memory of each stage, computed from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from espalier.config.format import DataSettings
from espalier.data.found import FoundData
from espalier.jobs.data_sets import DataSet
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS
from espalier.jobs.stage import StageSettings
from espalier.models.families import layout, num_parameters, shape_of
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart
from espalier.planning.memory import WorkerMemory
from espalier.planning.sources import Source
from espalier.stages.plan import CODE_VERSION, Plan, Stage

MASTER_AND_MOMENTS_BYTES = 12
"""A training checkpoint holds three float32 values a parameter."""


@dataclass(frozen=True)
class StagePreview:
    """The preview of one stage.

    Attributes:
        config: configuration of the model that is made, measured or exported.
        makes_model: whether the stage makes a model.
        steps, samples, tokens: of the whole stage; None for an evaluation over all of a text.
        flops: with teacher, importance passes and evaluations; None if they depend on the text's length.
        memory: of one worker of a stage that trains.
        bytes_on_disk: the most that the stage writes and keeps.
        trained: what is trained, of a stage that trains a part of the model or adds to it; None elsewhere.
    """

    stage: Stage
    parent: str
    config: ConfigDict
    makes_model: bool
    steps: int | None = None
    samples: int | None = None
    tokens: int | None = None
    flops: float | None = None
    memory: WorkerMemory | None = None
    bytes_on_disk: int = 0
    trained: TrainedPart | None = None

    @property
    def parameters(self) -> int:
        return num_parameters(self.config)

    def to_json(self) -> dict[str, Any]:
        """An entry of plan.json."""
        shape = {k: v for k, v in asdict(shape_of(self.config)).items() if isinstance(v, int)}
        return {
            "name": self.stage.name,
            "kind": self.stage.config.kind,
            "key": self.stage.key,
            "code_version": CODE_VERSION,
            "parent": self.parent,
            "inputs": self.stage.config.inputs(),
            "data": self.stage.config.data,
            "shape": shape | {"parameters": self.parameters} if self.makes_model else {},
            "steps": self.steps,
            "samples": self.samples,
            "tokens": self.tokens,
            "flops": self.flops,
            "memory": asdict(self.memory) | {"total": self.memory.total} if self.memory else None,
            "bytes_on_disk": self.bytes_on_disk,
            **({} if self.trained is None else {"trained_parameters": self.trained.num_parameters}),
        }


@dataclass(frozen=True)
class Asked:
    """The context of a preview: the job, its models and data, and the previews so far.

    Attributes:
        value_bytes: of one weight while computing: 2 in bfloat16, 4 in float32.
        sources: the models that the job begins with.
        found: what is known of each data set.
        seen: previews of the earlier stages.
    """

    job: Job
    plan: Plan
    value_bytes: int
    sources: Mapping[str, Source]
    found: Mapping[DataSet, FoundData]
    seen: dict[str, StagePreview]

    def data_of(self, config: StageSettings) -> DataSettings:
        return self.job.data_of(config)

    def samples_of(self, config: StageSettings) -> int | None:
        """Number of training samples of a stage's data; None for text, which would have to be read."""
        return self.found[config.data].num_samples

    def outputs_of(self, config: StageSettings) -> tuple[str, ...] | None:
        """Names of the classes of a stage's data, none for a regression; None where targets are words."""
        labelled = self.found[config.data].labelled
        return None if labelled is None else labelled.names


def preview(
    job: Job,
    plan: Plan,
    sources: Mapping[str, Source],
    *,
    value_bytes: int,
    found: Mapping[DataSet, FoundData],
) -> tuple[StagePreview, ...]:
    """Preview every stage of the plan, in order.

    Args:
        value_bytes, found: see `Asked`.

    Raises:
        RefusedInput: a target that cannot be reached.
    """
    asked = Asked(job, plan, value_bytes, sources, found, {})
    for stage in plan.stages:
        asked.seen[stage.name] = _preview(asked, stage)
    return tuple(asked.seen.values())


def _preview(asked: Asked, stage: Stage) -> StagePreview:
    """Preview one stage by its kind; the default is the model of its first input, or the one it brings."""
    kind, parent = KINDS[stage.config.kind], asked.plan.parent(stage.name).name
    model = asked.sources[stage.name].config if stage.name in asked.sources else asked.seen[stage.inputs[0]].config
    kept = 4 * num_parameters(model) if kind.makes_model else 0
    base = StagePreview(stage, parent, model, makes_model=kind.makes_model, bytes_on_disk=kept)
    own = kind.call("preview")
    return base if own is None else own(asked, base)


def moments_of(plan: Plan, name: str, previews: Mapping[str, StagePreview]) -> frozenset[str]:
    """Names of the parameters whose moments come with the model of a stage: of what it trained; or of all, where its
    kind hands on those of its input and the input has all of them.

    Args:
        previews: by stage, of this one's inputs at least.
    """
    config, kind = plan[name].config, KINDS[plan[name].config.kind]
    if kind.moments == "made":
        trained = previews[name].trained
        return frozenset(layout(previews[name].config)) if trained is None else trained.names
    first = next(iter(config.inputs().values()), None)
    if kind.moments != "input" or first is None:
        return frozenset()
    all_of_input = moments_of(plan, first, previews) == layout(previews[first].config).keys()
    return frozenset(layout(previews[name].config)) if all_of_input else frozenset()
