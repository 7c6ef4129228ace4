"""A model of the run with the head that labelled data asks for. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalier.models.architecture import architecture
from espalier.models.classifier import classifier_config, fresh_parameters
from espalier.models.families import is_causal, layout
from espalier.models.families.naming import match_names
from espalier.models.shape import ConfigDict


@dataclass(frozen=True)
class NewHead:
    """A model's configuration with its new head, and where each of its parameters comes from.

    Attributes:
        config: of the model with its new head.
        sources: parameter -> that of the old model which it is.
        fresh: parameters that start at random.
    """

    config: ConfigDict
    sources: Mapping[str, str]
    fresh: tuple[str, ...]


def new_head(config: ConfigDict, *, names: Sequence[str], padding_id: int | None, setting: str) -> NewHead:
    """Take the body of a model, and give it the head for a task.

    Args:
        names: of the classes, in the order of the outputs; none for a regression.
        padding_id: of the tokenizer: a decoder's classifier finds a row's last token by it.
        setting: of the model in the job file.
    """
    made = classifier_config(config, names=names, head="new", setting=setting)
    if is_causal(made) and made.get("pad_token_id") is None:
        made = made | {"pad_token_id": padding_id}
    match = match_names(layout(config), made)
    fresh = fresh_parameters(match.sources, made, all_of_head=architecture(config) == architecture(made))
    sources = {name: old for name, old in match.sources.items() if name not in fresh}
    return NewHead(made, sources, tuple(sorted(fresh)))
