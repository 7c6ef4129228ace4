"""Stage kind `load`: bring a model into the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from espalier.config.base import EXECUTION, Words
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import FromScratch
from espalier.config.paths import ModelSource
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import StageSettings

_Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$"), Words("a branch, a tag or a commit")]

_LARGE_BYTES = 512 * 2**20  # to copy less takes a second or two, and the run is then complete in itself


class LoadStage(StageSettings):
    """Bring a model into the run: a Hugging Face folder (safetensors only), a hub name, or random weights."""

    kind: Literal["load"]
    model: ModelSource | None = None
    from_scratch: FromScratch | None = None
    """A randomly initialised model, instead of `model`."""
    revision: _Revision | None = None
    """Commit or tag of a hub model."""
    head: Literal["auto", "new"] = "auto"
    """Labelled data: `new` replaces a classifier's head by a new one; `auto` adds one to models without."""
    weights: Annotated[Literal["auto", "copy", "refer"], EXECUTION] = "auto"
    """`refer`: the run names the published files by hash and reads them where they are, on every host, as long as it
    goes on. `copy`: it takes their values in and needs them no more. `auto` refers to 512 MiB and more and copies
    less; where states are kept elsewhere (`checkpoints`) it copies all."""

    @model_validator(mode="after")
    def _one_origin(self) -> LoadStage:
        if (self.model is None) == (self.from_scratch is None):
            raise RefusedInput([Fault("model", self.model, "either model or from_scratch")])
        return self


def refers(stage: LoadStage, *, weight_bytes: int, checkpoints: str | None) -> bool:
    """Whether a stage's state refers to the published files.

    Args:
        weight_bytes: of these files.
        checkpoints: the job's setting: states that are kept elsewhere are to outlive this host's files.
    """
    if stage.weights == "auto":
        return checkpoints is None and weight_bytes >= _LARGE_BYTES
    return stage.weights == "refer"


KIND = StageKind(
    name="load",
    settings=LoadStage,
    work="espalier.kinds.load.work:run",
    formats="any",
    checks="espalier.kinds.load.checks:faults",
    preview="espalier.kinds.load.preview:preview",
    source="espalier.kinds.load.source:find",
    past="loaded",
)
