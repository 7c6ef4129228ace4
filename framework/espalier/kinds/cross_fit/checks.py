"""Checks of a stage `cross_fit` before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from espalier.config.faults import Fault
from espalier.data.examples import Labelled, first_places
from espalier.jobs.data_sets import data_path
from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview
from espalier.planning.unread import unread

_MOST_NAMED = 8
_UNREAD = ("validation", "guard", "checkpoint", "optimizer_state")


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, CrossFitStage)
    labelled, path = checked.labelled_of(config), f"stages.{config.name}"
    assert labelled is not None
    first = first_places(labelled.train)
    num_texts = len(set(first.tolist()))
    yield from _of_single_text(labelled, first, path=f"{data_path(config.data)}.train.label")
    if config.folds > num_texts:
        yield Fault(f"{path}.folds", config.folds, f"at most the {num_texts} different texts of the training samples")
    yield from unread(config, _UNREAD, owner="a stage that leaves a trained model", path=path)


def _of_single_text(labelled: Labelled, first: NDArray[np.int64], *, path: str) -> Iterator[Fault]:
    """Yield the fault of classes with one text: the fold model that predicts it was trained without the class."""
    pairs = set(zip(labelled.train.targets.tolist(), first.tolist(), strict=True))
    texts = Counter(target for target, _ in pairs)
    single = [name for number, name in enumerate(labelled.names) if texts[number] == 1]
    if single:
        more = f" and {len(single) - _MOST_NAMED} more" if len(single) > _MOST_NAMED else ""
        given = f"has a single text of {', '.join(map(repr, single[:_MOST_NAMED]))}{more}"
        allowed = (
            "two different texts or more of every class, as the fold model that predicts the only one has never seen "
            "its class; add samples, or leave the class out"
        )
        yield Fault(path, None, allowed, given=given)
