"""Stage `load` of a model from scratch: make a tokenizer and random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from espalier.config.formats import format_of
from espalier.config.growth import FromScratch
from espalier.distributed.streams import stream_seed
from espalier.kinds.load.kind import LoadStage
from espalier.models.build import build_initialised
from espalier.models.families import num_parameters
from espalier.models.model_files import files_key, read_model_files, write_model_files
from espalier.models.pretrained import PretrainedTokenizer, find_model
from espalier.models.scratch import scratch_config, train_tokenizer
from espalier.saving.states import Lineage, save_model, whole_fragments
from espalier.stages.result import StageResult
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost


def run(context: StageContext[LoadStage], settings: FromScratch) -> StageResult:
    """Make both on rank zero; other workers wait. Collective."""
    stage = context.config
    key = context.world.from_rank_zero(_tokenizer(context, settings) if context.world.is_rank_zero else None)
    tokenizer = PretrainedTokenizer(context.folder.tokenizer(key))
    asked = settings.train_tokenizer.vocabulary if settings.train_tokenizer else tokenizer.vocabulary
    config = scratch_config(settings, vocabulary=asked, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
    weights = []
    if context.world.is_rank_zero:
        model = build_initialised(config, seed=stream_seed(context.job.seed, "initial weights"))
        weights = [(name, value.detach()) for name, value in model.named_parameters()]
    folder = save_model(context, whole_fragments(weights), Lineage(config, key, None))
    metrics = {"parameters": num_parameters(config), "tokenizer": key}
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, stage_cost(context))


def _tokenizer(context: StageContext[LoadStage], settings: FromScratch) -> str:
    """Write the tokenizer into the run's folder; returns its key."""
    setting = f"stages.{context.config.name}.from_scratch"
    with tempfile.TemporaryDirectory() as made:
        source = Path(made)
        if settings.train_tokenizer is not None:
            context.activity("making a tokenizer from the training text")
            documents = format_of(context.data).call("documents")(context.data, "train")
            train_tokenizer(documents, settings.train_tokenizer.vocabulary, source)
        else:
            assert settings.tokenizer is not None
            source = find_model(settings.tokenizer, setting=f"{setting}.tokenizer")
        files = read_model_files(source, setting=f"{setting}.tokenizer")
        key = files_key(files)
        write_model_files(files, context.folder.tokenizer(key))
    return key
