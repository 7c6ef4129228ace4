"""Stage kind `export`: write a model for stock transformers."""

from __future__ import annotations

from typing import Literal

from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput, StageSettings


class ExportStage(StageSettings):
    """Write a model as a plain Hugging Face folder."""

    kind: Literal["export"]
    model: ModelInput
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


KIND = StageKind(
    name="export",
    settings=ExportStage,
    work="espalier.kinds.export.work:run",
    yields=(),
    preview="espalier.kinds.export.preview:preview",
    past="exported",
    exports=True,
)
