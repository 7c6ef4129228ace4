"""Stages `train`, `distill` and `correct`: the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain

from espalier.config.stages import CorrectStage, DistillStage, TrainStage
from espalier.data.batches import window
from espalier.engine.contract import Engine
from espalier.engine.frozen import FrozenModel
from espalier.engine.objective import Objective, TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.engine.precision import compute_dtype
from espalier.engine.schedule import learning_rate
from espalier.stages.result import StageResult
from espalier.teachers.source import SignalSource
from espalier.training.context import StageContext
from espalier.training.course import Course
from espalier.training.guard import BadStep, Guard, LeftOut
from espalier.training.prepared import Prepared
from espalier.training.records import StepRecorder
from espalier.training.saver import Saver
from espalier.training.step import blamed_on, sample_ids, take_step


def run(context: StageContext) -> StageResult:
    """Train the student to the end of its budget, from its newest checkpoint where there is one. Collective."""
    stage = context.config
    assert isinstance(stage, DistillStage | TrainStage | CorrectStage)
    left_out = LeftOut.read(context)
    while True:
        try:
            return _train(context, left_out)
        except BadStep as bad:
            if context.world.is_rank_zero:
                context.times.mark("restarting", stage.name)
            left_out = left_out.after(bad, context, limit=stage.guard.limit)


@dataclass(frozen=True)
class _Work:
    """Everything that a step touches."""

    context: StageContext
    prepared: Prepared
    course: Course
    engine: Engine
    objective: Objective
    source: SignalSource | None
    saver: Saver
    guard: Guard
    recorder: StepRecorder


def _train(context: StageContext, left_out: LeftOut) -> StageResult:
    """From where the stage stands to its end.

    Raises:
        BadStep: on every worker; nothing of it is saved.
    """
    stage, prepared = context.config, Prepared.of(context)
    course = Course.open(context, prepared)
    guard, updates = Guard(stage.guard, prepared.losses), prepared.updates
    saver = Saver(context, prepared.lineage, prepared.start.folder, tables=course.tables)
    objective = TokenObjective(prepared.terms, watch=course.watch)
    with _models(context, prepared, course, objective) as (engine, source), closing(saver):
        recorder = StepRecorder.open(context, prepared)
        work = _Work(context, prepared, course, engine, objective, source, saver, guard, recorder)
        if context.world.is_rank_zero:
            context.times.mark("working", stage.name, prepared.first_step)
        for step in range(prepared.first_step, course.last_step):
            context.control.beat(f"a step of {stage.name}")
            if step + 1 not in left_out.steps:
                _take(work, step)
                updates += 1
            context.control.num_steps += 1
            course.after_step(step + 1, engine, source)
            saver.after_step(
                step + 1,
                engine.fragments,
                state={"seconds": recorder.seconds, "updates": updates, "losses": guard.losses, **course.state()},
                last=step + 1 == course.last_step,
                best=course.best_folder,
            )
            if step + 1 == course.last_step:
                break
        metrics = prepared.metrics(final_loss=guard.losses[-1] if guard.losses else None) | course.metrics()
        cost = prepared.cost(steps=course.last_step, asked=course.asked, seconds=recorder.seconds)
    folder = course.best_folder or saver.folder
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, cost)


def _take(work: _Work, step: int) -> None:
    """Draw the samples of a step, learn from them, look at what came of it, write it down."""
    context, prepared = work.context, work.prepared
    stage, world = context.config, context.world
    microbatches = window(
        work.course.sequences,
        prepared.place(step),
        seed=prepared.order_seed,
        batch=stage.batch,
        rank=world.rank,
        num_ranks=world.size,
    )
    if prepared.masking is not None:
        microbatches = [prepared.masking.apply(batch, prepared.place(step)) for batch in microbatches]
    lr = learning_rate(stage.optimizer, step=step, num_steps=prepared.num_steps)
    with blamed_on(step + 1, microbatches):
        report = take_step(
            work.engine,
            work.source,
            microbatches,
            objective=work.objective,
            lr=lr,
            random=(context.job.seed, prepared.place(step)),
            orders=prepared.layer_orders(step, world),
            world=world,
            before_update=work.saver.hold_update,
        )
    try:
        work.guard.check(step + 1, report)
    except BadStep as bad:
        bad.samples = sorted(chain.from_iterable(world.gather(sample_ids(microbatches))))
        work.saver.finish()  # what is being saved is of an earlier step, and good
        raise
    work.recorder.write(step + 1, report, lr=lr)


@contextmanager
def _models(
    context: StageContext, prepared: Prepared, course: Course, objective: Objective
) -> Iterator[tuple[Engine, SignalSource | None]]:
    """Teacher and student, open; both are closed on every way out."""
    stage, world = context.config, context.world
    dtype = compute_dtype(context.job.dtype, world.device)
    spec = EngineSpec(
        zero_level=stage.zero_level,
        dtype=dtype,
        optimizer=stage.optimizer,
        num_microbatches=stage.batch.sequences // (stage.batch.microbatch_sequences * world.size),
        activation_checkpointing=stage.activation_checkpointing,
        trained=prepared.trained,
    )
    with ExitStack() as opened:
        source = course.source
        if prepared.has_running_teacher:
            context.activity(f"loading the teacher, {stage.teacher}")
            reader = context.model_of(stage.teacher)
            source = FrozenModel(reader, zero_level=stage.teacher_zero_level, dtype=dtype, world=world)
            opened.enter_context(closing(source))
        context.activity(f"loading the student, {stage.student}")
        engine = open_engine(spec, objective, prepared.start, steps_taken=prepared.updates, world=world)
        opened.enter_context(closing(engine))
        yield engine, source
