"""The model that a stage makes of the model that it trained and of what it added to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.read import StateReader
from espalier.models.trained_part import TrainedPart
from espalier.saving.states import Lineage, save_model
from espalier.worker.context import StageContext


def fold_additions(context: StageContext[Any], part: TrainedPart | None, folder: str, *, student: StateReader) -> str:
    """Commit what a trained state becomes when its additions are folded into the model. Collective.

    Rank zero makes it tensor by tensor. The folded parameters and those of the model that were trained are written,
    with the latter's moments and the stage's tables; for the rest it stands on the student. The trained state stays, to
    resume from.

    Args:
        folder: of the trained state.
        student: the state that the stage began with.

    Returns:
        The folder of the state that was made; `folder` where nothing is folded.
    """
    if part is None or not part.folded:
        return folder
    context.activity("folding what was added into the model")
    trained, changed = context.state(folder, stage=context.config.name), part.names | part.folded
    manifest = trained.manifest
    return save_model(
        context,
        _fragments(part, trained),
        Lineage.after(student, trained=changed),
        state={"updates": manifest.state["updates"]},
        tables=manifest.tables,
    )


def _fragments(part: TrainedPart, trained: StateReader) -> Iterator[Fragment]:
    def value_of(name: str) -> Tensor:
        return trained.tensor("parameter", name).float()

    for slot, records in trained.manifest.tensors.items():
        for name in records:
            if name not in part.added and not (slot == "parameter" and name in part.folded):
                yield Fragment(slot, name, 0, trained.tensor(slot, name).flatten())
    for addition in part.additions:
        for name in sorted(addition.folded):
            yield Fragment("parameter", name, 0, addition.fold(name, value_of).float().flatten())
