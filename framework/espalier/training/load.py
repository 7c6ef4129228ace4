"""Stage `load`: bring a published model into the run as a committed state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from espalier.checkpoint.huggingface import ModelFolder, require_shapes, tensors_of
from espalier.config.stages import LoadStage
from espalier.models.families import body_prefix, layout, num_parameters, shape_of
from espalier.models.families.naming import published_names
from espalier.models.pretrained import copy_tokenizer, find_model, read_config, tokenizer_key
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
    config, key = read_config(source, setting=setting), tokenizer_key(source)
    model = open_published(tensors_of(source, setting=setting), config, setting=setting)
    if context.world.is_rank_zero:
        copy_tokenizer(source, context.folder.tokenizer(key))
    folder = save_model(context, whole_fragments(_tensors(model)), Lineage(config, key, None))
    metrics = {"parameters": num_parameters(config), "tokenizer": key}
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, stage_cost(context))


def open_published(model: ModelFolder, config: ConfigDict, *, setting: str) -> ModelFolder:
    """A published folder under the names and shapes of its architecture.

    Raises:
        RefusedInput: tensors that are missing, of another shape, or unknown.
    """
    expected = {name: parameter.shape for name, parameter in layout(config).items()}
    tied = shape_of(config).tied
    found = published_names(model.shapes, expected, prefix=body_prefix(config), tied=tied)
    sources = {name: old for old, name in found.items()}
    shapes = {name: model.shapes[old] for name, old in sources.items()}
    named = replace(model, shapes=shapes, read=lambda name: model.read(sources[name]))
    require_shapes(named, expected, setting=setting)
    return named


def _tensors(model: ModelFolder) -> Iterator[tuple[str, Tensor]]:
    return ((name, model.read(name)) for name in model.shapes)
