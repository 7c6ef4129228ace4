"""Stage `cross_fit`: twins that have each not seen a part of the samples judge that part."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.checkpoint.steps import step_folder
from espalier.checkpoint.write import begin, write_fragments
from espalier.config.stages import CrossFitStage
from espalier.data.batches import window
from espalier.data.examples import first_places
from espalier.data.labelled_sequences import LabelledSequences, Part
from espalier.data.order import positions_to_indices
from espalier.distributed.streams import stream_seed
from espalier.engine.contract import Engine
from espalier.engine.objective import Objective, TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.engine.precision import compute_dtype
from espalier.engine.schedule import learning_rate
from espalier.evaluation.answers import all_answers, as_logits, probabilities
from espalier.evaluation.metrics import measure
from espalier.models.families import num_outputs
from espalier.stages.orders import StageFailed
from espalier.stages.result import StageResult
from espalier.training.context import StageContext
from espalier.training.prepared import Prepared
from espalier.training.state import commit_save, forget_older, gather_files, table_fragments
from espalier.training.step import blamed_on, take_step


@dataclass(frozen=True)
class Twin:
    """One of the small trainings.

    Attributes:
        number: 0 to repeats * folds - 1.
        learns: samples that it is trained on.
        judges: the others.
    """

    number: int
    learns: NDArray[np.int64]
    judges: NDArray[np.int64]


def run(context: StageContext) -> StageResult:
    """Train the twins, each by one worker, in rounds of as many as there are workers. Collective."""
    stage, world, began = context.config, context.world, time.time()
    assert isinstance(stage, CrossFitStage)
    prepared = Prepared.of(context)
    samples, width = prepared.sequences, num_outputs(prepared.lineage.model)
    assert isinstance(samples, LabelledSequences)
    tables = prepared.resumed.tables() if prepared.resumed else {}
    sums = tables.get("sums", torch.zeros(len(samples), width, dtype=torch.float64))
    twins, done, steps = twins_of(context, samples), prepared.first_step, prepared.state.get("steps", 0)
    seconds = prepared.seconds
    if world.is_rank_zero:
        context.times.mark("working", stage.name, done)
    while done < len(twins):
        judged, taken = torch.zeros_like(sums), 0
        if done + world.rank < len(twins):
            own = twins[done + world.rank]
            answers, taken = _judge(context, prepared, own)
            judged[own.judges] = answers
        _heed_wishes(context, done)
        sums, steps = sums + world.sum(judged).cpu(), steps + int(world.sum(torch.tensor(taken)))
        done = min(done + world.size, len(twins))
        tables = {"sums": sums, "answers": as_logits((sums / stage.repeats).numpy())}
        seconds = prepared.seconds + time.time() - began
        _keep(context, prepared, done, tables, state={"steps": steps, "seconds": seconds})
    measured = measure((sums / stage.repeats).numpy(), samples.examples.targets)
    metrics = {"twins": len(twins), **{name: value for name, value in measured.items() if isinstance(value, float)}}
    cost = prepared.cost(steps=steps, asked=len(samples) * stage.repeats, seconds=seconds)
    return StageResult(stage.name, stage.kind, context.key, "done", step_folder(stage.name, done), metrics, cost)


def twins_of(context: StageContext, samples: LabelledSequences) -> list[Twin]:
    """Folds with nearly as many texts and nearly equal shares of each class, drawn by the job's seed.

    A text that comes more than once is in one fold, so that no twin has seen one of its labels; it is dealt by its
    first label.
    """
    stage, targets, first = context.config, samples.examples.targets, first_places(samples.examples)
    twins = []
    for repeat in range(stage.repeats):
        seed = stream_seed(context.job.seed, "folds", repeat)
        shuffled = positions_to_indices(np.arange(len(samples)), num_sequences=len(samples), seed=seed)
        shuffled = shuffled[first[shuffled] == shuffled]
        of_class = targets[shuffled] if np.issubdtype(targets.dtype, np.integer) else np.zeros(len(shuffled))
        dealt = shuffled[np.argsort(of_class, kind="stable")]
        for fold in range(stage.folds):
            judges = np.flatnonzero(np.isin(first, dealt[fold :: stage.folds]))
            learns = np.setdiff1d(np.arange(len(samples)), judges)
            twins.append(Twin(repeat * stage.folds + fold, learns, judges))
    return twins


def _judge(context: StageContext, prepared: Prepared, twin: Twin) -> tuple[Tensor, int]:
    """Train one twin alone and ask it: [judged, C] float64 probabilities, and the steps it took."""
    stage, alone = context.config, replace(context.world, rank=0, size=1)
    steps = stage.budget.num_steps(
        sequences=stage.batch.sequences,
        sequence_tokens=context.job.data.sequence_tokens,
        num_samples=len(twin.learns),
    )
    spec = EngineSpec(
        zero_level="none",
        dtype=compute_dtype(context.job.dtype, alone.device),
        optimizer=stage.optimizer,
        num_microbatches=stage.batch.sequences // stage.batch.microbatch_sequences,
        activation_checkpointing=stage.activation_checkpointing,
        trained=prepared.trained,
    )
    width, objective = num_outputs(prepared.lineage.model), TokenObjective(prepared.terms)
    with closing(open_engine(spec, objective, prepared.student, steps_taken=0, world=alone)) as engine:
        for step in range(steps):
            context.activity(f"twin {twin.number + 1} of {stage.folds * stage.repeats}: step {step + 1} of {steps}")
            if context.control.stop.is_set() or context.control.preempted.is_set():
                return torch.zeros(len(twin.judges), width, dtype=torch.float64), step
            _take(context, prepared, engine, objective, twin, step=step, num_steps=steps)
            context.control.num_steps += 1
        logits = all_answers(
            engine.evaluate,
            Part(prepared.sequences, twin.judges),
            width=width,
            microbatch_sequences=stage.batch.microbatch_sequences,
            world=alone,
        )
    return torch.from_numpy(probabilities(logits)), steps


def _take(
    context: StageContext,
    prepared: Prepared,
    engine: Engine,
    objective: Objective,
    twin: Twin,
    *,
    step: int,
    num_steps: int,
) -> None:
    stage, alone = context.config, replace(context.world, rank=0, size=1)
    seed = stream_seed(context.job.seed, "twin", twin.number)
    samples = Part(prepared.sequences, twin.learns)
    microbatches = window(samples, step, seed=seed, batch=stage.batch, rank=0, num_ranks=1)
    with blamed_on(step + 1, microbatches):
        report = take_step(
            engine,
            None,
            microbatches,
            objective=objective,
            lr=learning_rate(stage.optimizer, step=step, num_steps=num_steps),
            random=(seed, step),
            world=alone,
        )
    if not math.isfinite(report.loss + report.gradient_norm):
        text = f"stage {stage.name}: twin {twin.number + 1} has a loss that is no number at step {step + 1}"
        raise StageFailed("unstable", f"{text}; try a smaller stages.{stage.name}.optimizer.lr")


def _heed_wishes(context: StageContext, done: int) -> None:
    """Stop where somebody asked for it; twins that were under way begin anew. Collective."""
    control = context.control
    stop, preempted = context.world.sum_flags(control.stop.is_set(), control.preempted.is_set())
    if stop or preempted:
        raise StageFailed("stopped" if stop else "preempted", f"after {done} twins, whose answers are saved")


def _keep(
    context: StageContext, prepared: Prepared, done: int, tables: dict[str, Tensor], *, state: dict[str, Any]
) -> None:
    """Commit what the twins have said so far. Collective."""
    world, folder = context.world, step_folder(context.config.name, done)
    if world.is_rank_zero:
        begin(context.storage, folder, attempt=context.attempt)
    world.barrier()
    held = table_fragments(tables) if world.is_rank_zero else ()
    written = write_fragments(context.storage, folder, fragments=held, rank=world.rank, attempt=context.attempt)
    ranks = gather_files(world, written)
    if world.is_rank_zero:
        shapes = {name: tuple(table.shape) for name, table in tables.items()}
        commit_save(
            context,
            folder,
            prepared.lineage,
            step=done,
            zero_level="none",
            state=state,
            ranks=ranks,
            tables=shapes,
            with_model=False,
        )
        forget_older(context, keep_latest=1)
    world.barrier()
