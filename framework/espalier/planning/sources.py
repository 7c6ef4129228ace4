"""Find the models that a job begins with, without loading their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalier.config.data import SpecialTokens
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.kind import KINDS
from espalier.jobs.stage import StageSettings
from espalier.models.pretrained import PretrainedTokenizer
from espalier.models.shape import ConfigDict


@dataclass(frozen=True)
class Source:
    """One model that the job begins with.

    Attributes:
        tokenizer: None while it is yet to be made of the training text.
        identity: changes when the files do; part of the keys of all that is made from it.
        weight_bytes: of the files that hold its weights; 0 where they are yet to be made.
    """

    config: ConfigDict
    tokenizer: PretrainedTokenizer | None
    identity: str
    weight_bytes: int = 0


@dataclass(frozen=True)
class Use:
    """The use that a job makes of a model.

    Attributes:
        outputs: names of the classes of labelled data, none for a regression; None for text.
        special_tokens: for text, the setting of the same name.
    """

    outputs: Sequence[str] | None = None
    special_tokens: SpecialTokens = "own"


def find_sources(stages: Sequence[StageSettings], uses: Mapping[str, Use]) -> dict[str, Source]:
    """Find the source of every stage that brings a model into the run; by the stage's name.

    Raises:
        RefusedInput: missing folders, unknown architectures, pickled weights; all models at once.
    """
    sources: dict[str, Source] = {}
    faults: list[Fault] = []
    for stage in stages:
        if find := KINDS[stage.kind].call("source"):
            try:
                sources[stage.name] = find(stage, uses.get(stage.name, Use()))
            except RefusedInput as refused:
                faults += refused.faults
    if faults:
        raise RefusedInput(faults)
    return sources
