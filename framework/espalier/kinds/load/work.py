"""Stage `load`: bring a published model into the run as a committed state, which holds its values or names them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from espalier.checkpoint.huggingface import ModelFolder, tensors_of
from espalier.config.faults import Fault, RefusedInput
from espalier.distributed.streams import stream_seed
from espalier.kinds.load import scratch
from espalier.kinds.load.kind import LoadStage
from espalier.kinds.load.reference import reference_to
from espalier.models.families import num_parameters
from espalier.models.initial import drawn
from espalier.models.model_files import files_key, read_model_files, write_model_files
from espalier.models.pretrained import PretrainedTokenizer, find_model
from espalier.models.published import Published, check_published, with_padding
from espalier.models.stock_check import difference_from_stock, fits_in_memory
from espalier.saving.states import Lineage, save_model, whole_fragments
from espalier.stages.result import StageResult
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost


def run(context: StageContext[LoadStage]) -> StageResult:
    """Rank zero reads tensor by tensor, or hashes the files; the others wait."""
    stage = context.config
    if stage.from_scratch is not None:
        return scratch.run(context, stage.from_scratch)
    assert stage.model is not None
    setting = f"stages.{stage.name}.model"
    source = find_model(stage.model, setting=setting, revision=stage.revision)
    files = read_model_files(source, setting=setting)
    key = files_key(files)
    tokenizer = context.folder.tokenizer(key)
    if context.world.is_rank_zero:
        write_model_files(files, tokenizer)
    context.world.barrier()
    outputs = None if context.labelled is None else context.labelled.names
    published = check_published(source, outputs=outputs, head=stage.head, setting=setting)
    published = with_padding(published, PretrainedTokenizer(tokenizer).padding_id)
    config, fresh = published.config, published.fresh
    stored = tensors_of(source, setting=setting)
    if context.world.is_rank_zero:
        _require_stock(context, source, published, stored, setting=setting)
    context.world.barrier()
    refer = reference_to(context, source, published.sources, setting=setting) if context.world.is_rank_zero else None
    copied = {} if refer else published.sources
    read = ((name, stored.read(old)) for name, old in copied.items())
    seed = context.job.seed
    started = drawn(config, fresh, seed_of=lambda name: stream_seed(seed, f"fresh {name}"))
    committed = save_model(context, whole_fragments(chain(read, started)), Lineage(config, key, None, published=refer))
    metrics = {"parameters": num_parameters(config), "tokenizer": key, "fresh": list(fresh)}
    if published.left_out:
        metrics["left_out"] = list(published.left_out)
        context.announce(f"left out heads of {source} that this job has no use for: {', '.join(published.left_out)}")
    return StageResult(stage.name, stage.kind, context.key, "done", committed, metrics, stage_cost(context))


def _require_stock(
    context: StageContext[LoadStage], source: Path, published: Published, stored: ModelFolder, *, setting: str
) -> None:
    """Compare logits with stock transformers where the model fits into one worker's memory."""
    if not fits_in_memory(published.config):
        return context.announce(f"{source} is too large to be compared with stock transformers on this host")
    context.activity("comparing with stock transformers")
    apart = difference_from_stock(
        source,
        published.config,
        lambda name: stored.read(published.sources[name]),
        as_stored=False,
        fresh=published.fresh,
    )
    if apart is not None:
        given = f"names {source}, whose answers in stock transformers differ from those here by {apart:.3g}"
        allowed = "a model that stock transformers and espalier read alike; save it anew with `save_pretrained`"
        raise RefusedInput([Fault(setting, str(source), allowed, given=given)])
