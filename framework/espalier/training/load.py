"""Stage `load`: bring a published model into the run as a committed state."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from espalier.checkpoint.huggingface import ModelFolder, require_shapes, tensors_of
from espalier.config.stages import LoadStage
from espalier.distributed.streams import stream_seed
from espalier.models.classifier import classifier_config, fresh_parameters, keeps_head
from espalier.models.families import body_prefix, is_causal, layout, num_parameters, shape_of
from espalier.models.families.naming import published_names
from espalier.models.model_files import files_key, read_model_files, write_model_files
from espalier.models.pretrained import PretrainedTokenizer, find_model, read_config
from espalier.models.shape import ConfigDict
from espalier.stages.result import StageResult
from espalier.training import scratch
from espalier.training.context import StageContext
from espalier.training.cost import stage_cost
from espalier.training.state import Lineage, save_model, whole_fragments


def run(context: StageContext) -> StageResult:
    """Rank zero reads tensor by tensor; the others wait."""
    stage = context.config
    assert isinstance(stage, LoadStage)
    if stage.from_scratch is not None:
        return scratch.run(context, stage.from_scratch)
    assert stage.model is not None
    setting = f"stages.{stage.name}.model"
    source = find_model(stage.model, setting=setting, revision=stage.revision)
    published, files = read_config(source, setting=setting), read_model_files(source, setting=setting)
    key = files_key(files)
    tokenizer = context.folder.tokenizer(key)
    if context.world.is_rank_zero:
        write_model_files(files, tokenizer)
    context.world.barrier()
    config = published if context.labelled is None else _classifier(context, tokenizer, published, setting=setting)
    new_head = context.labelled is not None and not keeps_head(published, stage.head)
    folder, fresh = _opened(source, config, new_head=new_head, setting=setting)
    read = ((name, folder.read(name)) for name in folder.shapes)
    drawn = _drawn(config, fresh, seed=context.job.seed)
    committed = save_model(context, whole_fragments(chain(read, drawn)), Lineage(config, key, None))
    metrics = {"parameters": num_parameters(config), "tokenizer": key, "fresh": fresh}
    return StageResult(stage.name, stage.kind, context.key, "done", committed, metrics, stage_cost(context))


def open_published(model: ModelFolder, config: ConfigDict, *, setting: str, fresh: Collection[str] = ()) -> ModelFolder:
    """A published folder under the names and shapes of its architecture.

    Args:
        fresh: parameters that it need not have, and that are not taken from it.

    Raises:
        RefusedInput: tensors that are missing, of another shape, or unknown.
    """
    expected = {name: parameter.shape for name, parameter in layout(config).items()}
    found = published_names(model.shapes, expected, prefix=body_prefix(config), tied=shape_of(config).tied)
    sources = {name: old for old, name in found.items() if name not in fresh}
    shapes = {name: model.shapes[old] for name, old in sources.items()}
    named = replace(model, shapes=shapes, read=lambda name: model.read(sources[name]))
    require_shapes(named, {name: shape for name, shape in expected.items() if name not in fresh}, setting=setting)
    return named


def _opened(source: Path, config: ConfigDict, *, new_head: bool, setting: str) -> tuple[ModelFolder, list[str]]:
    """The folder, and the parameters that are to be drawn instead."""
    model, expected = tensors_of(source, setting=setting), layout(config)
    found = published_names(model.shapes, expected, prefix=body_prefix(config), tied=shape_of(config).tied)
    fresh = sorted(fresh_parameters(found.values(), expected, all_of_head=new_head))
    return open_published(model, config, setting=setting, fresh=fresh), fresh


def _classifier(context: StageContext, tokenizer: Path, published: ConfigDict, *, setting: str) -> ConfigDict:
    assert context.labelled is not None
    config = classifier_config(published, names=context.labelled.names, head=context.config.head, setting=setting)
    if is_causal(config) and config.get("pad_token_id") is None:
        config |= {
            "pad_token_id": PretrainedTokenizer(tokenizer).padding_id
        }  # stock code finds a row's last token by it
    return config


def _drawn(config: ConfigDict, names: Collection[str], *, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Matrices normal with the model's own spread, vectors zero; as stock code starts a new head."""
    spread, parameters = float(config.get("initializer_range", 0.02)), layout(config)
    for name in names:
        shape = parameters[name].shape
        generator = torch.Generator().manual_seed(stream_seed(seed, f"fresh {name}"))
        yield name, torch.randn(shape, generator=generator) * (spread if len(shape) > 1 else 0.0)
