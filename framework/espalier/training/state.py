"""Committing models and training states to the run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.manifest_file import discard, load_manifest
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import latest, retain, stage_folder, step_folder
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.training import ZeroLevel
from espalier.distributed.world import World
from espalier.models.families import layout
from espalier.models.shape import ConfigDict
from espalier.training.context import StageContext


@dataclass(frozen=True)
class Lineage:
    """What a saved model is: its configuration, its tokenizer, the checkpoint it was made from."""

    model: ConfigDict
    tokenizer: str
    parent: str | None

    @staticmethod
    def after(reader: StateReader, *, model: ConfigDict | None = None) -> Lineage:
        """A model made from another; with a new configuration when surgery changed its shape."""
        origin = reader.manifest.origin
        return Lineage(model or origin.model, origin.tokenizer or "", reader.folder)


def save(
    context: StageContext,
    fragments: Iterable[Fragment],
    lineage: Lineage,
    *,
    step: int,
    zero_level: ZeroLevel = "none",
    state: Mapping[str, Any] | None = None,
) -> str:
    """Every worker writes what it holds, then rank zero commits. Collective; returns the checkpoint's folder."""
    world, folder = context.world, step_folder(context.config.name, step)
    if world.is_rank_zero:
        begin(context.storage, folder, attempt=context.attempt)
    world.barrier()
    written = write_fragments(context.storage, folder, fragments=fragments, rank=world.rank, attempt=context.attempt)
    ranks = world.gather(written)
    if world.is_rank_zero:
        origin = _origin(context, lineage, step=step, zero_level=zero_level, world=world)
        shapes = {name: parameter.shape for name, parameter in layout(lineage.model).items()}
        commit(
            context.storage,
            folder,
            origin=origin,
            shapes=shapes,
            state={"key": context.key, **(state or {})},
            ranks=ranks,
        )
    world.barrier()
    return folder


def _state(context: StageContext, more: Mapping[str, Any]) -> dict[str, Any]:
    """What resuming needs beyond tensors. Position and random streams are functions of the step."""
    return {"key": context.key, "run": context.folder.ids(), **more}


def save_model(context: StageContext, fragments: Iterable[Fragment], lineage: Lineage) -> str:
    """Commit a model that rank zero alone makes, tensor by tensor. Collective."""
    return save(context, fragments if context.world.is_rank_zero else (), lineage, step=0)


def find_resume(context: StageContext) -> StateReader | None:
    """The newest checkpoint of this very stage to go on from; None to start it from its input. Collective.

    Damaged ones are passed over and told of. Those of a stage with the same name and other settings are removed:
    they would stand before the ones that are going to be saved.
    """
    folder = context.world.from_rank_zero(_newest(context) if context.world.is_rank_zero else None)
    return None if folder is None else StateReader.open(context.storage, folder, verify=False)


def _newest(context: StageContext) -> str | None:
    found = latest(context.storage, stage_folder(context.config.name))
    for damage in found.damaged:
        context.events.add("activity", context.config.name, str(damage))
    if found.folder is None:
        return None
    if load_manifest(context.storage, found.folder).state.get("key") == context.key:
        return found.folder
    for name in context.storage.list(stage_folder(context.config.name)):
        if name.startswith("step-"):
            discard(context.storage, f"{stage_folder(context.config.name)}/{name}")
    return None


def forget_older(context: StageContext, *, keep_latest: int) -> None:
    """Keep the newest checkpoints of this stage."""
    if context.world.is_rank_zero:
        retain(context.storage, stage_folder(context.config.name), keep_latest=keep_latest)


def whole_fragments(tensors: Iterable[tuple[str, Any]]) -> Iterator[Fragment]:
    """Each named tensor as one fragment of parameter values."""
    return (Fragment("parameter", name, 0, tensor.reshape(-1)) for name, tensor in tensors)


def _origin(context: StageContext, lineage: Lineage, *, step: int, zero_level: ZeroLevel, world: World) -> Origin:
    return Origin(
        stage=context.config.name,
        step=step,
        attempt=context.attempt,
        world_size=world.size,
        zero_level=zero_level,
        model=lineage.model,
        tokenizer=lineage.tokenizer,
        parent=lineage.parent,
        created_unix_seconds=time.time(),
    )
