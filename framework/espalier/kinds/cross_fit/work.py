"""Stage `cross_fit`: train fold models and collect their predictions on the folds left out."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor

from espalier.checkpoint.steps import step_folder
from espalier.data.labelled_sequences import LabelledSequences, Part
from espalier.engine.open import open_engine
from espalier.evaluation.answers import all_answers, as_logits, probabilities
from espalier.evaluation.metrics import measure
from espalier.jobs.dials import dial_path
from espalier.kinds.cross_fit.fold_model import Fold, FoldModel, folds_of
from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.models.families import num_outputs
from espalier.saving.saver import Saver
from espalier.stages.failures import StageFailed
from espalier.stages.result import StageResult
from espalier.training.loop import engine_spec
from espalier.training.prepared import Prepared
from espalier.training.updates import Updates
from espalier.worker.context import StageContext

_NUM_FOLD_MODELS = "twins"  # the metric's name in the results of all versions


def run(context: StageContext[CrossFitStage]) -> StageResult:
    """Train the fold models, one on each worker at a time, and save all predictions after each round. Collective."""
    stage, world, began = context.config, context.world, time.time()
    prepared = Prepared.of(context)
    samples, width = prepared.sequences, num_outputs(prepared.lineage.model)
    assert isinstance(samples, LabelledSequences)
    tables = prepared.resumed.tables() if prepared.resumed else {}
    sums = tables.get("sums", torch.zeros(len(samples), width, dtype=torch.float64))
    folds, done, steps = folds_of(context, samples), prepared.first_step, prepared.state.get("steps", 0)
    seconds = prepared.seconds
    saver = Saver(context, prepared.lineage, prepared.start.folder, tables=lambda: tables, with_model=False)
    if world.is_rank_zero:
        context.times.record("working", stage.name, done)
    with closing(saver):
        while done < len(folds):
            predicted, taken = torch.zeros_like(sums), 0
            if done + world.rank < len(folds):
                own = folds[done + world.rank]
                predicted[own.held_out], taken = _predict(context, prepared, own)
            saver.stop_if_requested(done)  # fold models that were being trained start again
            sums, steps = sums + world.sum(predicted).cpu(), steps + int(world.sum(torch.tensor(taken)))
            done = min(done + world.size, len(folds))
            tables = {"sums": sums, "answers": as_logits((sums / stage.repeats).numpy())}
            seconds = prepared.seconds + time.time() - began
            saver.save(done, state={"steps": steps, "seconds": seconds})
    metrics = {_NUM_FOLD_MODELS: len(folds), **measure((sums / stage.repeats).numpy(), samples.examples.targets)}
    cost = prepared.cost(steps=steps, asked=len(samples) * stage.repeats, seconds=seconds)
    return StageResult(stage.name, stage.kind, context.key, "done", step_folder(stage.name, done), metrics, cost)


def _predict(context: StageContext[CrossFitStage], prepared: Prepared, fold: Fold) -> tuple[Tensor, int]:
    """Train one fold model on this worker alone: [held out, C] float64 probabilities, and the steps it took."""
    stage, alone = context.config, replace(context.world, rank=0, size=1)
    model, width = FoldModel.of(context, prepared, fold), num_outputs(prepared.lineage.model)
    spec = engine_spec(context, prepared, num_ranks=1)
    with closing(open_engine(spec, model.objective, prepared.student, steps_taken=0, world=alone)) as engine:
        updates = Updates(model, engine, None, stage.optimizer, model.last_step, model.random, alone)
        for step in range(model.last_step):
            context.activity(f"{model.name}: step {step + 1} of {model.last_step}")
            if context.control.stop.is_set() or context.control.preempted.is_set():
                return torch.zeros(len(fold.held_out), width, dtype=torch.float64), step
            report = updates.take(step).report
            if not math.isfinite(report.loss + report.gradient_norm):
                text = f"stage {stage.name}: {model.name} has a loss that is not finite at step {step + 1}"
                raise StageFailed(
                    "unstable", f"{text}; try a smaller {dial_path(f'stages.{stage.name}.optimizer.lr', context.job)}"
                )
            context.control.num_steps += 1
        logits = all_answers(
            engine.evaluate,
            Part(prepared.sequences, fold.held_out),
            width=width,
            microbatch_sequences=stage.batch.microbatch_sequences,
            world=alone,
        )
    return torch.from_numpy(probabilities(logits)), model.last_step
