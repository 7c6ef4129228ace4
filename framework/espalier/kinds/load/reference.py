"""Stage `load` of a model whose values stay where they were published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from espalier.checkpoint.manifest import Published
from espalier.checkpoint.published_files import refer_to
from espalier.kinds.load.kind import LoadStage, refers
from espalier.models.stored_tensors import stored_tensors
from espalier.worker.context import StageContext

_DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def reference_to(
    context: StageContext[LoadStage], source: Path, sources: Mapping[str, str], *, setting: str
) -> Published | None:
    """The published values that the stage's state refers to; None where it copies them.

    Args:
        source: the model folder.
        sources: parameter -> the stored tensor that it is read from.
    """
    stored = stored_tensors(source, setting=setting)
    weight_bytes = sum(os.stat(source / file).st_size for file in {one.file for one in stored.values()})
    if not refers(context.config, weight_bytes=weight_bytes, checkpoints=context.job.checkpoints):
        return None
    if any(stored[name].dtype not in _DTYPES for name in sources.values()):
        return None
    context.activity(f"hashing {source}")
    tensors = {parameter: (stored[name].file, name, _DTYPES[stored[name].dtype]) for parameter, name in sources.items()}
    return refer_to(Path(os.path.abspath(source)), tensors)
