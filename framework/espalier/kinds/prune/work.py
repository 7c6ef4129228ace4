"""Stage `prune`: measure importance, choose units, write the smaller model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

from safetensors.torch import load, save
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import stage_folder
from espalier.data.batches import spread
from espalier.engine.frozen import FrozenModel
from espalier.engine.precision import compute_dtype
from espalier.kinds.prune.kind import PruneStage
from espalier.models.families import layout, num_parameters, probes, resized, shape_of
from espalier.models.flops import model_flops
from espalier.models.shape import ConfigDict, ModelShape
from espalier.saving.states import Lineage, save_model, whole_fragments
from espalier.stages.failures import StageFailed
from espalier.stages.result import Cost, StageResult
from espalier.surgery.choose_units import choose
from espalier.surgery.importance import measuring
from espalier.surgery.keep import Keep
from espalier.surgery.prune import pruned_tensors
from espalier.surgery.scores import Scores, Sums
from espalier.surgery.search import find_shape
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost

_MAX_SCORE_BYTES = 2**30


def run(context: StageContext[PruneStage]) -> StageResult:
    """Prune the student's committed state. Collective."""
    stage = context.config
    student = context.model_of(stage.student)
    config = student.manifest.origin.model
    parent = shape_of(config)
    child = find_shape(config, stage.target, stage.search, path=f"stages.{stage.name}.target")
    scores, cost = _reused_scores(context, stage.scores) if stage.scores else _measure(context, student, parent)
    if bad := [name for name, values in scores.tensors().items() if not bool(values.isfinite().all())]:
        text = f"stage {stage.name}: the importance of {bad[0]} of the model of stage {stage.student} is no number"
        raise StageFailed("unstable", text)
    _keep_scores(context, scores)
    keep = choose(scores, parent=parent, child=child)
    new_config = resized(config, child, kept_layers=keep.layers)
    context.activity(f"cutting {parent.layers} layers to {child.layers}, FFN {parent.ffn} to {child.ffn}")
    lineage = Lineage.after(student, model=new_config)
    folder = save_model(context, whole_fragments(_cut(student, config, keep)), lineage)
    metrics = {
        "parameters": num_parameters(new_config),
        "parent_parameters": num_parameters(config),
        "shape": asdict(child),
        "parent_shape": asdict(parent),
        "layers_removed": [layer for layer in range(parent.layers) if layer not in keep.layers],
    }
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, cost)


def _measure(context: StageContext[PruneStage], student: StateReader, parent: ModelShape) -> tuple[Scores, Cost]:
    """Measure importance scores over the calibration text. Collective."""
    stage, world = context.config, context.world
    config = student.manifest.origin.model
    dtype = compute_dtype(context.job.dtype, world.device)
    sequences = context.sequences("train")
    batches = spread(
        sequences,
        stage.calibration.samples,
        rank=world.rank,
        num_ranks=world.size,
        microbatch_sequences=stage.calibration.microbatch_sequences,
    )
    with closing(FrozenModel(student, zero_level=stage.zero_level, dtype=dtype, world=world)) as model:
        with measuring(model.network.model, probes(config), parent) as meter:
            for number, batch in enumerate(batches, start=1):
                on_device = batch.to(world.device)
                documents = on_device.documents
                with meter.microbatch(None if documents is None else documents >= 0):
                    model.run(on_device)
                done = number * stage.calibration.microbatch_sequences * world.size
                context.activity(
                    f"measuring importance {min(done, stage.calibration.samples)}/{stage.calibration.samples}"
                )
        total = {name: world.sum(tensor) for name, tensor in meter.sums.tensors().items()}
    sums = Sums(**total)
    samples, length = int(sums.num_samples), context.data.sequence_tokens
    flops = model_flops(config, tokens=samples * length, sequence_tokens=length)
    return sums.finish(parent), stage_cost(context, tokens=samples * length, samples=samples, flops=flops)


def _reused_scores(context: StageContext[PruneStage], source: str) -> tuple[Scores, Cost]:
    data = context.storage.read_bytes(f"{stage_folder(source)}/scores.safetensors", max_bytes=_MAX_SCORE_BYTES)
    return Scores.from_tensors(load(data)), stage_cost(context)


def _keep_scores(context: StageContext[PruneStage], scores: Scores) -> None:
    if context.world.is_rank_zero:
        folder = stage_folder(context.config.name)
        context.storage.make_folder(folder)
        context.storage.write_bytes(f"{folder}/scores.safetensors", save(scores.tensors()))


def _cut(student: StateReader, config: ConfigDict, keep: Keep) -> Iterator[tuple[str, Tensor]]:
    for pruned in pruned_tensors(layout(config), keep):
        yield pruned.new_name, pruned.transform(student.tensor("parameter", pruned.old_name))
