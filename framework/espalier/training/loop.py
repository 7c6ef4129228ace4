"""The training loop of all training stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from espalier.engine.contract import Engine
from espalier.engine.frozen import FrozenModel
from espalier.engine.hidden_states import teacher_layers_of
from espalier.engine.open import EngineSpec, open_engine
from espalier.engine.precision import compute_dtype
from espalier.jobs.trained_stage import TrainedStage
from espalier.saving.folding import fold_additions
from espalier.saving.saver import Saver
from espalier.stages.result import StageResult
from espalier.teachers.source import SignalSource
from espalier.training.guard import BadStep, Guard, LeftOut
from espalier.training.method import TrainingMethod
from espalier.training.prepared import Prepared
from espalier.training.records import StepRecorder
from espalier.training.updates import Update, Updates
from espalier.worker.context import StageContext

OpenMethod = Callable[[StageContext[Any], Prepared], TrainingMethod]


def train(context: StageContext[Any], open_method: OpenMethod, *, teacher: str | None = None) -> StageResult:
    """Train the student to the end of its budget, from its newest checkpoint if there is one. Collective.

    Args:
        open_method: opens the method at the step to start from; called again when the guard goes back.
        teacher: the stage whose model runs at every step and gives the signal; sharded by `teacher_zero_level`.
    """
    left_out = LeftOut.read(context)
    while True:
        try:
            return _train(context, open_method, teacher, left_out)
        except BadStep as bad:
            if context.world.is_rank_zero:
                context.times.record("restarting", context.config.name)
            left_out = left_out.after(bad, context, limit=context.config.guard.limit)


def _train(
    context: StageContext[TrainedStage], open_method: OpenMethod, teacher: str | None, left_out: LeftOut
) -> StageResult:
    """Train from the newest checkpoint to the end, without the steps left out.

    Raises:
        BadStep: on every worker; the bad step is not saved.
    """
    stage, world = context.config, context.world
    prepared = Prepared.of(context, teacher=teacher)
    method = open_method(context, prepared)
    guard, num_updates = Guard(stage.guard, prepared.losses), prepared.updates
    saver = Saver(context, prepared.lineage, prepared.start.folder, tables=method.tables)
    with _models(context, prepared, method, teacher) as (engine, source), closing(saver):
        recorder = StepRecorder.open(context, prepared, method.objective.names)
        updates = Updates(
            method,
            engine,
            source,
            stage.optimizer,
            prepared.num_steps,
            random=lambda step: (context.job.seed, prepared.place(step)),
            world=world,
            before_update=saver.hold_update,
        )
        if world.is_rank_zero:
            context.times.record("working", stage.name, prepared.first_step)
        for step in range(prepared.first_step, method.last_step):
            context.control.beat(f"a step of {stage.name}")
            if step + 1 not in left_out.steps:
                _record(updates.take(step), _Watch(context, guard, saver, recorder))
                num_updates += 1
            context.control.num_steps += 1
            method.after_step(step + 1, engine, source)
            saver.after_step(
                step + 1,
                engine.fragments,
                state={"seconds": recorder.seconds, "updates": num_updates, "losses": guard.losses, **method.state()},
                last=step + 1 == method.last_step,
                best=method.best_folder,
            )
            if step + 1 == method.last_step:
                break
        metrics = prepared.metrics(final_loss=guard.losses[-1] if guard.losses else None) | dict(method.metrics())
        cost = prepared.cost(steps=method.last_step, asked=method.asked, seconds=recorder.seconds)
    folder = fold_additions(context, prepared.part, method.best_folder or saver.folder, student=prepared.student)
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, cost)


@dataclass(frozen=True)
class _Watch:
    """The objects that check and record an update."""

    context: StageContext[TrainedStage]
    guard: Guard
    saver: Saver
    recorder: StepRecorder


def _record(update: Update, watch: _Watch) -> None:
    """Check an update and record it.

    Raises:
        BadStep: the guard refuses it.
    """
    try:
        watch.guard.check(update.step, update.report)
    except BadStep as bad:
        bad.samples = sorted(chain.from_iterable(watch.context.world.gather(update.samples)))
        watch.saver.finish()  # the save under way is of an earlier, good step
        raise
    watch.recorder.write(update.step, update.report, lr=update.lr)


@contextmanager
def _models(
    context: StageContext[TrainedStage],
    prepared: Prepared,
    method: TrainingMethod,
    teacher: str | None,
) -> Iterator[tuple[Engine, SignalSource | None]]:
    """Open the student's engine and the source of the signal; closes both at the end."""
    stage, world = context.config, context.world
    spec = engine_spec(context, prepared, num_ranks=world.size)
    with ExitStack() as opened:
        source = method.source
        if teacher is not None:
            context.activity(f"loading the teacher, {teacher}")
            level: Literal["none", "parameters"] = getattr(stage, "teacher_zero_level", "none")
            source = FrozenModel(
                context.model_of(teacher),
                zero_level=level,
                dtype=spec.dtype,
                world=world,
                layers=teacher_layers_of(method.objective),
            )
            opened.enter_context(closing(source))
        context.activity(f"loading the student, {stage.student}")
        engine = open_engine(spec, method.objective, prepared.start, steps_taken=prepared.updates, world=world)
        opened.enter_context(closing(engine))
        yield engine, source


def engine_spec(context: StageContext[TrainedStage], prepared: Prepared, *, num_ranks: int) -> EngineSpec:
    """The engine's specification for a stage's student, trained by `num_ranks` workers together."""
    stage, part = context.config, prepared.part
    return EngineSpec(
        zero_level=stage.zero_level,
        dtype=compute_dtype(context.job.dtype, context.world.device),
        optimizer=stage.optimizer,
        num_microbatches=stage.batch.sequences // (stage.batch.microbatch_sequences * num_ranks),
        activation_checkpointing=stage.activation_checkpointing,
        additions=part.additions if part else (),
        trained=part.names if part else None,
        seed=context.job.seed,
    )
