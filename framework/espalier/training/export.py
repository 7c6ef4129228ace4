"""Stage `export`: a plain Hugging Face folder, with a model card that tells where the model comes from."""

from __future__ import annotations

import torch

from espalier import __version__
from espalier.checkpoint.export import write_folder
from espalier.checkpoint.huggingface import ModelFolder
from espalier.checkpoint.read import StateReader
from espalier.config.stages import ExportStage
from espalier.models.architecture import architecture
from espalier.models.families import num_parameters
from espalier.models.shape import ConfigDict
from espalier.stages.result import StageResult
from espalier.training.card import model_card
from espalier.training.context import StageContext
from espalier.training.cost import stage_cost


def run(context: StageContext) -> StageResult:
    """Rank zero writes tensor by tensor; the others wait."""
    stage = context.config
    assert isinstance(stage, ExportStage)
    model = context.model_of(stage.model)
    folder = f"exports/{stage.name}"
    if context.world.is_rank_zero:
        context.activity(f"writing {folder}")
        dtype = getattr(torch, stage.dtype)
        write_folder(context.storage, folder, model=exported(context, model, stage.dtype), dtype=dtype)
    context.world.barrier()
    config = model.manifest.origin.model
    metrics = {"folder": folder, "parameters": num_parameters(config), "dtype": stage.dtype}
    return StageResult(stage.name, stage.kind, context.key, "done", None, metrics, stage_cost(context))


def exported(context: StageContext, model: StateReader, dtype: str) -> ModelFolder:
    """A committed model as others know it: configuration, tensors, tokenizer, card."""
    origin = model.manifest.origin
    source = context.folder.tokenizer(origin.tokenizer or "")
    files = {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    files["README.md"] = model_card(context.folder, model).encode()
    return ModelFolder(_stock(origin.model, dtype), model.shapes, lambda name: model.tensor("parameter", name), files)


def _stock(config: ConfigDict, dtype: str) -> ConfigDict:
    kept = {key: value for key, value in config.items() if key not in ("torch_dtype", "_name_or_path")}
    return kept | {"architectures": [architecture(config)], "dtype": dtype, "espalier_version": __version__}
