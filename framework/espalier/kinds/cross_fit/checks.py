"""Checks of a stage `cross_fit` before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.data.examples import first_places
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
    num_texts = len(set(first_places(labelled.train).tolist()))
    if config.folds > num_texts:
        yield Fault(f"{path}.folds", config.folds, f"at most the {num_texts} different texts of the training samples")
    yield from unread(config, _UNREAD, owner="a stage that leaves a trained model", path=path)


def remarks(checked: Checked, preview: StagePreview) -> Iterator[str]:
    """Yield a sentence about classes with one text: the fold model that predicts it was trained without the class."""
    config = preview.stage.config
    labelled = checked.labelled_of(config)
    assert labelled is not None
    pairs = set(zip(labelled.train.targets.tolist(), first_places(labelled.train).tolist(), strict=True))
    texts = Counter(target for target, _ in pairs)
    single = [name for number, name in enumerate(labelled.names) if texts[number] == 1]
    if single:
        more = f" and {len(single) - _MOST_NAMED} more" if len(single) > _MOST_NAMED else ""
        named = ", ".join(map(repr, single[:_MOST_NAMED]))
        yield (
            f"warning: {data_path(config.data)} has a single text of {named}{more}; the fold model that predicts it "
            "has never seen its class, so its label cannot be judged"
        )
