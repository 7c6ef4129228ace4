"""Stage kind `load`: bring a model into the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from espalier.config.base import Words
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import FromScratch
from espalier.config.paths import ModelSource
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import StageSettings

_Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$"), Words("a branch, a tag or a commit")]


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

    @model_validator(mode="after")
    def _one_origin(self) -> LoadStage:
        if (self.model is None) == (self.from_scratch is None):
            raise RefusedInput([Fault("model", self.model, "either model or from_scratch")])
        return self


KIND = StageKind(
    name="load",
    settings=LoadStage,
    work="espalier.kinds.load.work:run",
    formats=("text", "labelled"),
    checks="espalier.kinds.load.checks:faults",
    source="espalier.kinds.load.source:find",
    past="loaded",
)
