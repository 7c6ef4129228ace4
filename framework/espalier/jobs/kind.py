"""Stage kinds: one declaration each, from which union, schema, plan, dispatch and report derive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from espalier.config.format import DataFormat
from espalier.config.plugins import Registry, load_reference
from espalier.jobs.stage import StageSettings, Yield


@dataclass(frozen=True)
class StageKind:
    """One kind of stage.

    References are `module:function`, imported when they are needed, so that a job can be read and shown without torch.

    Attributes:
        name: `kind` in the job file.
        settings: of a stage of this kind, with a literal `kind`.
        work: reference to (context) -> StageResult: what every worker does. Collective.
        yields: what later stages can take from it.
        formats: names of the formats of the data that it works on; none for a kind that reads no data.
        trains: of a kind that trains, reference to (settings, configuration of the student, of the teacher or None) ->
            TrainedPart or None: which parameters of the model, and which it adds to them; None for the whole model.
        preview: reference to (asked, stage preview) -> StagePreview, see `espalier.planning.preview`; without one the
            stage yields its input model, at no cost.
        checks: reference to (checked, stage preview) -> Iterator[Fault]: what cannot work, see
            `espalier.planning.checks`.
        remarks: reference to (checked, stage preview) -> Iterator[str]: sentences for people.
        source: reference to (settings, use) -> Source, of a kind that brings a model into the run.
        moments: whether its model comes with an optimizer's moments: `made` here, those of its `input`, or none.
        unfit: what is allowed instead, for the fault of data that has none of `formats`.
        past: what its model is afterwards, as `pruned`: the word in the lineage and the tag on a model card.
        reshapes: whether the model that comes out has another shape.
        exports: whether the stage writes a folder of the run's exports.
    """

    name: str
    settings: type[StageSettings]
    work: str
    yields: tuple[Yield, ...] = ("model",)
    formats: tuple[str, ...] | Literal["any"] = ()
    unfit: str = ""
    trains: str = "espalier.models.trained_part:tuned_part"
    preview: str | None = None
    checks: str | None = None
    remarks: str | None = None
    source: str | None = None
    moments: Literal["none", "made", "input"] = "none"
    past: str = "done"
    reshapes: bool = False
    exports: bool = False

    @property
    def makes_model(self) -> bool:
        return "model" in self.yields

    def accepts(self, data: DataFormat) -> bool:
        """Whether it works on data of this format, or of one that this format stands for."""
        return self.formats == "any" or not {data.name, *data.stands_for}.isdisjoint(self.formats)

    def call(self, part: Literal["work", "trains", "preview", "checks", "remarks", "source"]) -> Any:
        """Import the function of a part; None if the kind has none."""
        reference = getattr(self, part)
        return None if reference is None else load_reference(reference)


def _built_in(*names: str) -> dict[str, str]:
    return {name: f"espalier.kinds.{name}.kind:KIND" for name in names}


KINDS: Registry[StageKind] = Registry(
    "espalier.stages",
    StageKind,
    _built_in("load", "grow", "prune", "head", "distill", "train", "cross_fit", "correct", "evaluate", "export"),
)
"""Every kind of stage that is installed."""


def shown_kind(name: str) -> StageKind:
    """The declaration of a kind, or a bare one for the records of a kind that is not installed here."""
    return KINDS[name] if name in KINDS else StageKind(name, StageSettings, work="", yields=())
