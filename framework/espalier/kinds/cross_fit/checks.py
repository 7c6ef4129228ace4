"""Checks of a stage `cross_fit` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.data.examples import first_places
from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview
from espalier.planning.unread import unread

_UNREAD = ("validation", "guard", "checkpoint", "optimizer_state")


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, CrossFitStage)
    labelled, path = checked.labelled_of(config), f"stages.{config.name}"
    assert labelled is not None
    num_texts = len(set(first_places(labelled.train).tolist()))
    if config.folds > num_texts:
        yield Fault(f"{path}.folds", config.folds, f"at most the {num_texts} different texts of the training samples")
    yield from unread(config, _UNREAD, owner="a stage that leaves a trained model", path=path)
