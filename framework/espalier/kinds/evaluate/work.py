"""Stage `evaluate`: measure models on the validation data, and generate samples of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal

from espalier.data.examples import Labelled
from espalier.data.labelled_sequences import LabelledSequences
from espalier.engine.frozen import FrozenModel
from espalier.engine.precision import compute_dtype
from espalier.evaluation.answers import all_answers, probabilities
from espalier.evaluation.finite import NotFinite, exp, or_none
from espalier.evaluation.gates import gate_faults
from espalier.evaluation.generation import continuations
from espalier.evaluation.metrics import confusion, measure
from espalier.evaluation.perplexity import Perplexity, measure_perplexity
from espalier.jobs.recipe import stages_of
from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.models.families import num_outputs, num_parameters, shape_of
from espalier.models.flops import model_flops, read_share
from espalier.stages.failures import StageFailed
from espalier.stages.result import StageResult
from espalier.surgery.depth_maps import sharing_order
from espalier.tracking.gap import gap_closed
from espalier.training.masking import Masking
from espalier.training.prepared import mean_tokens
from espalier.worker.context import StageContext
from espalier.worker.cost import forget_peak, peak_bytes, stage_cost


def run(context: StageContext[EvaluateStage]) -> StageResult:
    """Measure `model` and each of `against` on the same data, one after another. Collective."""
    labelled, watched = context.labelled, context.data.watched
    if labelled is not None and watched is not None:
        return _on_labels(context, labelled, watched)
    return _on_text(context)


def _on_labels(context: StageContext[EvaluateStage], labelled: Labelled, watched: str) -> StageResult:
    stage = context.config
    models = {name: _answered(context, name) for name in (stage.model, *stage.against)}
    metrics: dict[str, Any] = {"model": stage.model, "watched": watched, "models": models}
    faults = gate_faults(stage.gate, metric=models[stage.model][watched])
    if faults:
        metrics["gate"] = "; ".join(faults)
    tokens = sum(model["tokens"] for model in models.values())
    flops = sum(model["tokens"] * model["flops_per_token"] for model in models.values())
    cost = stage_cost(context, tokens=tokens, samples=len(labelled.valid) * len(models), flops=flops)
    return StageResult(stage.name, stage.kind, context.key, _status(faults), None, metrics, cost)


def _answered(context: StageContext[EvaluateStage], name: str) -> dict[str, Any]:
    """The metrics of a model on the labelled validation samples, and its FLOPs."""
    stage, world, labelled = context.config, context.world, context.labelled
    assert labelled is not None
    context.activity(f"asking {name}")
    forget_peak(world)
    reader, sequences = context.model_of(name), context.sequences("valid")
    assert isinstance(sequences, LabelledSequences)
    config = reader.manifest.origin.model
    dtype = compute_dtype(stage.dtype, world.device)
    with closing(FrozenModel(reader, zero_level=stage.zero_level, dtype=dtype, world=world)) as model:
        logits = all_answers(
            model.run,
            sequences,
            width=num_outputs(config),
            microbatch_sequences=stage.microbatch_sequences,
            world=world,
            on_progress=lambda done: context.activity(f"asking {name}: {done} of {len(sequences)} samples"),
        )
        peak = max(world.gather(peak_bytes(world)))
    length = mean_tokens(sequences, context.data.sequence_tokens)
    with _naming(context, name):
        answers, targets = probabilities(logits), labelled.valid.targets
        measures = measure(answers, targets)
    return {
        **measures,
        **({"confusion": confusion(answers, targets)} if answers.shape[1] > 1 else {}),
        "tokens": sequences.num_tokens,
        "parameters": num_parameters(config),
        "flops_per_token": model_flops(config, tokens=1, sequence_tokens=length),
        "layers": shape_of(config).layers,
        "peak_bytes": peak,
    }


def _on_text(context: StageContext[EvaluateStage]) -> StageResult:
    stage = context.config
    names = (stage.model, *stage.against)
    models = {name: _measure(context, name) for name in names}
    metrics: dict[str, Any] = {"model": stage.model, "models": models}
    nll = models[stage.model]["nll"]
    ratio = exp(nll - models[stage.against[0]]["nll"]) if stage.against else None
    metrics["perplexity_ratio"] = None if ratio is None else or_none(ratio)
    losses = {name: model["nll"] for name, model in models.items()}
    pruned = [one.name for one in stages_of(context.job) if one.kind == "prune"]
    metrics["gap_closed"] = gap_closed(losses, model=stage.model, pruned=pruned)
    faults = gate_faults(stage.gate, perplexity=exp(nll), perplexity_ratio=ratio)
    if faults:
        metrics["gate"] = "; ".join(faults)
    tokens = sum(model["tokens"] for model in models.values())
    flops = sum(model["passed_tokens"] * model["flops_per_token"] for model in models.values())
    cost = stage_cost(context, tokens=tokens, flops=flops)
    return StageResult(stage.name, stage.kind, context.key, _status(faults), None, metrics, cost)


def _status(faults: Sequence[str]) -> Literal["done", "gate_failed"]:
    return "gate_failed" if faults else "done"


def _measure(context: StageContext[EvaluateStage], name: str) -> dict[str, Any]:
    stage, world = context.config, context.world
    context.activity(f"loading {name}")
    forget_peak(world)
    reader = context.model_of(name)
    config = reader.manifest.origin.model
    dtype = compute_dtype(stage.dtype, world.device)
    sequence_tokens = context.data.sequence_tokens
    masking = Masking.of(config, context.tokenizer(), share=stage.masked_share, seed=context.job.seed)
    layers, sequences = shape_of(config).layers, context.sequences("valid")
    total = min(stage.sequences or len(sequences), len(sequences))
    frozen = FrozenModel(reader, zero_level=stage.zero_level, dtype=dtype, world=world)
    with closing(frozen) as model, _naming(context, name):
        if stage.unrolled is not None and name == stage.model:
            order = sharing_order(stage.unrolled.order, layers, stage.unrolled.depth)
            model.network.run_layers(order)
            layers = len(order)
        measured = measure_perplexity(
            model,
            sequences,
            num_sequences=stage.sequences,
            microbatch_sequences=stage.microbatch_sequences,
            world=world,
            prepared=(lambda batch: masking.apply(batch, 0)) if masking else lambda batch: batch,
            on_progress=lambda done: context.activity(f"measuring {name}: {min(done, total)} of {total} sequences"),
        )
        context.activity(f"{name} writes samples")
        positions = shape_of(config).positions
        samples = continuations(model, context.tokenizer(), stage.prompts, positions=positions)
        peak = max(world.gather(peak_bytes(world)))
    return _row(measured) | {
        "parameters": num_parameters(config),
        "flops_per_token": model_flops(
            config,
            tokens=1,
            sequence_tokens=sequence_tokens,
            layers=layers,
            read_share=read_share(config, stage.masked_share),
        ),
        "layers": layers,
        "peak_bytes": peak,
        "samples": samples,
    }


@contextmanager
def _naming(context: StageContext[EvaluateStage], name: str) -> Iterator[None]:
    """Name the model in an error about NaN or infinity, which is not retried."""
    try:
        yield
    except NotFinite as error:
        raise StageFailed("unstable", f"stage {context.config.name}, the model of stage {name}: {error}") from error


def _row(measured: Perplexity) -> dict[str, Any]:
    return {
        "perplexity": or_none(measured.perplexity),
        "nll": measured.nll,
        "tokens": measured.num_tokens,
        "passed_tokens": measured.num_passed,
        "seconds": measured.seconds,
        "tokens_per_second": measured.num_tokens / measured.seconds,
    }
