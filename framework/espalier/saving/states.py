"""Commit models and training states to the run's storage, and find the state to resume from."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import Base, Origin, Published
from espalier.checkpoint.manifest_file import discard, is_committed
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import is_of_other_key, latest, retain, stage_folder, step_folder
from espalier.checkpoint.write import RankFiles, SupersededAttempt, begin, commit, write_fragments
from espalier.config.training import ZeroLevel
from espalier.distributed.world import World
from espalier.models.families import layout
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart
from espalier.stages.failures import StageFailed
from espalier.tracking import jsonl
from espalier.tracking.epochs import EPOCHS
from espalier.tracking.record import STEPS
from espalier.worker.context import StageContext


@dataclass(frozen=True)
class Lineage:
    """What a saved model is: its configuration, its tokenizer, the checkpoint it was made from.

    Attributes:
        beside: shapes of the parameters that are trained along and are no part of it, by name.
        bases: states that hold what is not saved with it, as it was not trained.
        published: files that hold what is not saved with it, as it is where it was published.
    """

    model: ConfigDict
    tokenizer: str
    parent: str | None
    beside: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bases: tuple[Base, ...] = ()
    published: Published | None = None

    @staticmethod
    def after(
        reader: StateReader, *, model: ConfigDict | None = None, trained: Collection[str] | None = None
    ) -> Lineage:
        """The lineage of a model made from another one; `model` if its configuration changed.

        Args:
            trained: names of the parameters that change and are saved; None for all.
        """
        origin = reader.manifest.origin
        bases = () if trained is None else reader.bases_without(trained)
        return Lineage(model or origin.model, origin.tokenizer or "", reader.folder, bases=bases)

    @staticmethod
    def of_part(reader: StateReader, part: TrainedPart | None) -> Lineage:
        """The lineage of checkpoints that hold what is trained; None for all of the model."""
        if part is None:
            return Lineage.after(reader)
        beside = {name: one.shape for name, one in part.added.items()}
        return replace(Lineage.after(reader, trained=part.names), beside=beside)


def save_model(
    context: StageContext[Any],
    fragments: Iterable[Fragment],
    lineage: Lineage,
    *,
    state: Mapping[str, Any] | None = None,
    tables: Mapping[str, tuple[int, ...]] | None = None,
) -> str:
    """Commit a model that rank zero makes tensor by tensor; returns the checkpoint's folder. Collective.

    Args:
        state: JSON values for its optimizer's moments, if it has some.
        tables: shapes of the tables among the fragments.
    """
    world, folder = context.world, step_folder(context.config.name, 0)
    if world.is_rank_zero:
        begin(context.storage, folder, attempt=context.attempt)
    world.barrier()
    held = _alive(context, fragments) if world.is_rank_zero else ()
    ranks = gather_files(
        world, write_fragments(context.storage, folder, fragments=held, rank=world.rank, attempt=context.attempt)
    )
    if world.is_rank_zero:
        commit_save(context, folder, lineage, step=0, zero_level="none", state=state or {}, ranks=ranks, tables=tables)
    world.barrier()
    return folder


def gather_files(world: World, written: RankFiles) -> list[bytes]:
    """What each rank has written, by rank, as `RankFiles.to_bytes`; on rank zero alone. Collective."""
    return world.gather_on_rank_zero(written.to_bytes())


def commit_save(
    context: StageContext[Any],
    folder: str,
    lineage: Lineage,
    *,
    step: int,
    zero_level: ZeroLevel,
    state: Mapping[str, Any],
    ranks: Sequence[bytes],
    tables: Mapping[str, tuple[int, ...]] | None = None,
    with_model: bool = True,
) -> None:
    """On rank zero commit the files of all workers as a checkpoint.

    Args:
        state: JSON values that resuming needs; data position and random streams are functions of the step.
        ranks: as `gather_files` returns them; read here, which takes seconds for hundreds of ranks.
        tables: shapes of the tables among the fragments.
        with_model: whether a model is among the fragments.

    Raises:
        SupersededAttempt: a later attempt was started, so this one may not commit.
    """
    for records in (STEPS, EPOCHS):  # records of the steps in this checkpoint, which will not be repeated
        jsonl.sync(context.folder.path / records)
    newest = context.folder.attempts()
    if newest > context.attempt:
        raise SupersededAttempt(f"attempt {context.attempt} may not save `{folder}`: attempt {newest} was begun")
    commit(
        context.storage,
        folder,
        origin=_origin(context, lineage, step=step, zero_level=zero_level, world=context.world),
        shapes={name: one.shape for name, one in layout(lineage.model).items()} if with_model else {},
        state={"key": context.key, "run": context.folder.ids(), **state},
        ranks=[RankFiles.from_bytes(one) for one in ranks],
        tables=tables,
        beside=lineage.beside,
        bases=lineage.bases if with_model else (),
        published=lineage.published,
    )


def find_resume(context: StageContext[Any]) -> StateReader | None:
    """Find the newest checkpoint of this stage's key to resume from; None: start from the input. Collective.

    A state of step 0 is none: it is what a stage makes at its end of additions and model together.

    Damaged checkpoints are skipped with a note. Uncommitted saves, and damaged checkpoints newer than the one to resume
    from, are removed, as the next saves use their folders. Checkpoints of other settings are kept until the stage ends.
    """
    folder = context.world.from_rank_zero(_newest(context) if context.world.is_rank_zero else None)
    return None if folder is None else context.state(folder, stage=context.config.name)


def _newest(context: StageContext[Any]) -> str | None:
    storage, stage = context.storage, stage_folder(context.config.name)
    found = latest(storage, stage, key=context.key, first_step=1, hashed=context.hashed)
    if found.damaged and not found.folder:
        remedy = f"put one back, or remove {stage} to begin the stage again"
        raise StageFailed("refused", f"no checkpoint can be used: {'; '.join(map(str, found.damaged))}; {remedy}")
    for damage in found.damaged:
        context.announce(f"{damage}; going back to {found.folder}")
    for name in storage.list(stage):
        folder = f"{stage}/{name}"
        if name.startswith("step-") and folder > str(found.folder or "") and (why := _why_removed(context, folder)):
            context.announce(f"removing {folder}: {why}")
            discard(storage, folder)
    return found.folder


def _why_removed(context: StageContext[Any], folder: str) -> str:
    """The reason why a folder is removed; empty for one that is kept."""
    if not is_committed(context.storage, folder):
        return "its save was not finished"
    return "" if is_of_other_key(context.storage, folder, context.key) else "it is damaged"


def forget_older(context: StageContext[Any], *, keep_latest: int, keep: Collection[str] = ()) -> None:
    """On rank zero remove this stage's checkpoints but the newest, those in `keep`, and bases of other states."""
    if context.world.is_rank_zero:
        stage, kept = stage_folder(context.config.name), {*keep, *context.needed_states}
        retain(context.storage, stage, keep_latest=keep_latest, keep=kept, key=context.key)


def _alive(context: StageContext[Any], fragments: Iterable[Fragment]) -> Iterator[Fragment]:
    """Yield the fragments, with a sign of life for each: making a large model takes long."""
    for fragment in fragments:
        context.control.alive()
        yield fragment


def table_fragments(tables: Mapping[str, Tensor]) -> Iterator[Fragment]:
    """Yield each table as one fragment; for rank zero, as all workers hold the same tables."""
    return (Fragment("table", name, 0, table.reshape(-1)) for name, table in tables.items())


def whole_fragments(tensors: Iterable[tuple[str, Any]]) -> Iterator[Fragment]:
    """Yield each named tensor as one fragment of parameter values."""
    return (Fragment("parameter", name, 0, tensor.reshape(-1)) for name, tensor in tensors)


def _origin(context: StageContext[Any], lineage: Lineage, *, step: int, zero_level: ZeroLevel, world: World) -> Origin:
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
