"""Stage `export`: write a model as a Hugging Face folder with a model card."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from espalier import __version__
from espalier.checkpoint.export import write_folder
from espalier.checkpoint.export_mark import require_replaceable
from espalier.checkpoint.huggingface import ModelFolder
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.read import StateReader
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.config.labelled import LabelledConfig
from espalier.jobs.recipe import stages_of
from espalier.kinds.export.card import model_card
from espalier.kinds.export.kind import ExportStage
from espalier.models.architecture import architecture
from espalier.models.exported_files import exported_files
from espalier.models.families import num_parameters
from espalier.models.model_files import read_model_files, without_code
from espalier.models.shape import ConfigDict
from espalier.models.stock_check import difference_from_stock, fits_in_memory
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost


def run(context: StageContext[ExportStage]) -> StageResult:
    """Write the folder on rank zero, tensor by tensor; other workers wait. Collective."""
    stage = context.config
    model = context.model_of(stage.model)
    folder = f"exports/{stage.name}"
    if context.world.is_rank_zero:
        context.activity(f"writing {folder}")
        write(context.folder, model, context.folder.files, folder, dtype=stage.dtype)
    context.world.barrier()
    config = model.manifest.origin.model
    metrics = {"folder": folder, "parameters": num_parameters(config), "dtype": stage.dtype}
    return StageResult(stage.name, stage.kind, context.key, "done", None, metrics, stage_cost(context))


def export_stage(run_folder: Path, stage: str, target: Path, *, dtype: str) -> None:
    """Export the model of a finished stage of any run to any folder.

    Raises:
        RefusedInput: no such run or stage, a stage that has no model (yet), or a folder that holds something else.
    """
    folder = RunFolder(run_folder.resolve())
    stages = [path.parent.name for path in sorted(folder.path.glob("stages/*/result.json"))]
    result = folder.result(stage) if stage in stages else None
    if result is None or result.checkpoint is None:
        with_model = [name for name in stages if (r := folder.result(name)) is not None and r.checkpoint]
        allowed = f"a finished stage with a model: {', '.join(with_model) or 'this run has none yet'}"
        raise RefusedInput([Fault("stage", stage, allowed, nearest(stage, with_model))])
    if dtype not in ("float32", "bfloat16"):
        raise RefusedInput([Fault("--dtype", dtype, "float32 or bfloat16")])
    target = Path(os.path.abspath(target))  # not resolved: a link at the target is refused
    require_replaceable(target)
    model = StateReader.open(state_storage(folder.path, folder.read_job()), result.checkpoint)
    write(folder, model, LocalStorage(target.parent), target.name, dtype=dtype)


def write(run: RunFolder, model: StateReader, storage: LocalStorage, folder: str, *, dtype: str) -> None:
    """Write configuration, tensors, tokenizer and card of a committed model into a folder."""
    origin = model.manifest.origin
    kept = read_model_files(run.tokenizer(origin.tokenizer or ""), setting="tokenizers")
    files = exported_files(kept, origin.model) | {"README.md": model_card(run, model).encode()}
    config = _stock(origin.model, dtype) | _read_as(run, origin.stage)
    plain = ModelFolder(config, model.shapes, lambda name: model.tensor("parameter", name), files)
    values = getattr(torch, dtype)

    def rounded(name: str) -> Tensor:
        return model.tensor("parameter", name).to(values)

    def check(made: Path) -> None:
        if not fits_in_memory(origin.model):
            return
        apart = difference_from_stock(made, origin.model, rounded, as_stored=True)
        if apart is not None:
            given = f"would answer otherwise in stock transformers than it was measured here, by {apart:.3g} in a logit"
            allowed = "an export whose answers are the same; nothing was written, and this is an error of espalier"
            raise RefusedInput([Fault(folder, apart, allowed, given=given)])

    write_folder(storage, folder, model=plain, dtype=values, check=check)


def _read_as(run: RunFolder, stage: str) -> ConfigDict:
    """How the model's labelled data was read in training, for `espalier score`; nothing for a model of text."""
    job = run.read_job()
    data = next((job.data_of(config) for config in stages_of(job) if config.name == stage), None)
    if not isinstance(data, LabelledConfig):
        return {}
    columns = {"text": data.train.text, "pair": data.train.pair}
    return {"espalier_data": {"sequence_tokens": data.sequence_tokens, **columns}}


def _stock(config: ConfigDict, dtype: str) -> ConfigDict:
    kept = {key: value for key, value in without_code(config).items() if key != "torch_dtype"}
    return kept | {"architectures": [architecture(config)], "dtype": dtype, "espalier_version": __version__}
