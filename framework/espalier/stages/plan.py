"""The plan: the stages of a job in an order in which inputs come first, each with the key of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalier.config.faults import RefusedInput
from espalier.jobs.stage import StageSettings
from espalier.stages.graph import graph_faults

# Increase it when stages compute something else from the same settings, so that older results are not reused.
CODE_VERSION = 4


@dataclass(frozen=True)
class Stage:
    """One element of a plan.

    Attributes:
        config: its settings.
        key: hash of its settings, of the code version, of the data and of the keys of its inputs.
    """

    config: StageSettings
    key: str

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.config.inputs().values()))


@dataclass(frozen=True)
class Plan:
    """Stages in an order in which every input comes before its use."""

    stages: tuple[Stage, ...]

    def __getitem__(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def lineage(self, name: str) -> tuple[Stage, ...]:
        """The chain of models from the loaded one to `name`, following each stage's first input."""
        stage = self[name]
        return (*(self.lineage(stage.inputs[0]) if stage.inputs else ()), stage)

    def after(self, name: str) -> tuple[str, ...]:
        """The names of all stages that depend on `name`, directly or through others."""
        found = {name}
        for stage in self.stages:  # inputs come first
            if found & set(stage.inputs):
                found.add(stage.name)
        return tuple(stage.name for stage in self.stages if stage.name in found - {name})

    def parent(self, name: str) -> Stage:
        """The stage that loaded the model from which `name` descends; all its descendants use its tokenizer."""
        return self.lineage(name)[0]


def build_plan(
    configs: Sequence[StageSettings],
    *,
    context: Mapping[str, object],
    data: Mapping[str, str] | None = None,
    identities: Mapping[str, str] | None = None,
) -> Plan:
    """Check the graph and give every stage its key.

    Args:
        configs: the stages as the job lists them.
        context: JSON values that every stage depends on (seed, dtype).
        data: stage name -> fingerprint of the data that it works on.
        identities: stage name -> a hash of other files that it reads, such as a published model or a list of samples.

    Raises:
        RefusedInput: all faults of the graph (see `graph_faults`).
    """
    if faults := graph_faults(configs):
        raise RefusedInput(faults)
    stages: dict[str, Stage] = {}
    for config in _in_order(configs):
        inputs = {setting: stages[name].key for setting, name in config.inputs().items()}
        inputs |= {"identity": identities[config.name]} if identities and config.name in identities else {}
        of_data = {"data": data[config.name]} if data else {}
        stages[config.name] = Stage(config, _key(config, inputs, {**context, **of_data}))
    return Plan(tuple(stages.values()))


def _key(config: StageSettings, inputs: dict[str, str], context: Mapping[str, object]) -> str:
    text = json.dumps([CODE_VERSION, config.key_settings(), inputs, context], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _in_order(configs: Sequence[StageSettings]) -> list[StageSettings]:
    """Sort stages so that inputs come first; the graph has no faults."""
    ordered: list[StageSettings] = []
    waiting = list(configs)
    while waiting:
        done = {config.name for config in ordered}
        ordered.append(next(config for config in waiting if done.issuperset(config.inputs().values())))
        waiting.remove(ordered[-1])
    return ordered
