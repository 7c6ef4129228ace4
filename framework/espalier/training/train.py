"""Stages `train` and `distill`: the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from espalier.config.stages import DistillStage, TrainStage
from espalier.data.batches import window
from espalier.engine.contract import Engine
from espalier.engine.frozen import FrozenModel
from espalier.engine.objective import Objective
from espalier.engine.open import EngineSpec, open_engine
from espalier.engine.precision import compute_dtype
from espalier.engine.schedule import learning_rate
from espalier.stages.result import StageResult
from espalier.training.context import StageContext
from espalier.training.prepared import Prepared
from espalier.training.records import StepRecorder
from espalier.training.state import forget_older, save
from espalier.training.step import take_step


def run(context: StageContext) -> StageResult:
    """Train the student to the end of its budget, from its newest checkpoint where there is one. Collective."""
    stage, world = context.config, context.world
    assert isinstance(stage, DistillStage | TrainStage)
    prepared = Prepared.of(context)
    folder = prepared.start.folder
    with _models(context, prepared) as (engine, teacher):
        recorder = StepRecorder.open(context, prepared)
        for step in range(prepared.first_step, prepared.num_steps):
            microbatches = window(
                prepared.sequences,
                step,
                seed=prepared.order_seed,
                batch=stage.batch,
                rank=world.rank,
                num_ranks=world.size,
            )
            lr = learning_rate(stage.optimizer, step=step, num_steps=prepared.num_steps)
            random = (context.job.seed, step)
            report = take_step(engine, teacher, microbatches, terms=prepared.terms, lr=lr, random=random, world=world)
            recorder.write(step + 1, report, lr=lr)
            if step + 1 == prepared.num_steps or (step + 1) % stage.checkpoint.every == 0:
                folder = save(
                    context,
                    engine.fragments(),
                    prepared.lineage,
                    step=step + 1,
                    zero_level=stage.zero_level,
                    state={"seconds": recorder.seconds},
                )
                forget_older(context, keep_latest=stage.checkpoint.keep_latest)
        metrics = prepared.metrics() | recorder.metrics()
        cost = prepared.cost(context, seconds=recorder.seconds)
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, cost)


@contextmanager
def _models(context: StageContext, prepared: Prepared) -> Iterator[tuple[Engine, FrozenModel | None]]:
    """Teacher and student, open; both are closed on every way out."""
    stage, world = context.config, context.world
    dtype = compute_dtype(context.job.dtype, world.device)
    spec = EngineSpec(
        zero_level=stage.zero_level,
        dtype=dtype,
        optimizer=stage.optimizer,
        num_microbatches=stage.batch.sequences // (stage.batch.microbatch_sequences * world.size),
        activation_checkpointing=stage.activation_checkpointing,
    )
    with ExitStack() as opened:
        teacher = None
        if isinstance(stage, DistillStage):
            context.activity(f"loading the teacher, {stage.teacher}")
            reader = context.model_of(stage.teacher)
            teacher = FrozenModel(reader, zero_level=stage.teacher_zero_level, dtype=dtype, world=world)
            opened.enter_context(closing(teacher))
        context.activity(f"loading the student, {stage.student}")
        engine = open_engine(
            spec, Objective(prepared.terms), prepared.start, steps_taken=prepared.first_step, world=world
        )
        opened.enter_context(closing(engine))
        yield engine, teacher
