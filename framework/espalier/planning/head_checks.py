"""Check that the heads of models fit the data of the stages that use them."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.jobs.kind import KINDS
from espalier.models.architecture import is_classifier
from espalier.models.families import num_outputs
from espalier.models.shape import ConfigDict
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview


def head_faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """Yield faults: over labels models need an output for each class, over text none may be a classifier."""
    config = preview.stage.config
    labelled, inputs = checked.labelled_of(config), config.inputs()
    if not KINDS[config.kind].formats or not inputs:
        return
    first = next(iter(inputs))
    for setting, name in inputs.items():
        model = preview.config if setting == first else checked.models[name].config
        path = f"stages.{config.name}.{setting}"
        if not KINDS[checked.kind_of(name)].makes_model:
            continue
        if labelled is None and is_classifier(model):
            yield Fault(path, name, "a language model, as the stage works on text; this one tells classes apart")
        elif labelled is not None and not _fits(model, len(labelled.names) or 1):
            outputs = f"the {len(labelled.names)} classes" if labelled.names else "the numbers"
            wanted = f"a model with a head for {outputs} of its data; put a stage of kind head between them"
            yield Fault(path, name, wanted)


def _fits(model: ConfigDict, outputs: int) -> bool:
    return is_classifier(model) and num_outputs(model) == outputs
