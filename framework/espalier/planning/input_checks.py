"""Check that all models of a stage share a tokenizer, as they get the same token ids."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.jobs.kind import KINDS
from espalier.models.families import is_causal, shape_of
from espalier.models.shape import ConfigDict
from espalier.models.tokenizer_difference import difference
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview
from espalier.planning.sources import Source


def unlike_inputs(checked: Checked, preview: StagePreview, *, instead: str = "") -> Iterator[Fault]:
    """Yield faults of models whose tokenizer differs from that of the stage's first input.

    Args:
        instead: another remedy, for the end of the message.
    """
    config = preview.stage.config
    has_labels = checked.data_of(config).targets != "words"
    (_, own), *asked = config.inputs().items()
    for setting, name in asked:
        if KINDS[checked.kind_of(name)].makes_model:  # a cross_fit stage's predictions are known and need no tokens
            path = f"stages.{config.name}.{setting}"
            yield from _unlike_input(checked, own, name, path=path, has_labels=has_labels, instead=instead)


def _unlike_input(
    checked: Checked, own: str, name: str, *, path: str, has_labels: bool, instead: str
) -> Iterator[Fault]:
    one, other = checked.models[own], checked.models[name]
    sizes = shape_of(one.config).vocabulary, shape_of(other.config).vocabulary
    if path.endswith(".teacher") and not has_labels and sizes[0] != sizes[1]:
        yield Fault(path, name, f"a model with the student's vocabulary of {sizes[0]}; it has {sizes[1]}")
    elif unlike := _unlike(checked.sources[one.parent], checked.sources[other.parent], own, with_labels=has_labels):
        yield Fault(path, name, unlike + instead)
    elif has_labels and is_causal(one.config) != is_causal(other.config):
        kind, read = ("a decoder", "last") if is_causal(one.config) else ("an encoder", "first")
        yield Fault(path, name, f"{kind}, as {own} is: its head reads the {read} token{instead}")
    elif has_labels and is_causal(one.config) and len(pads := _pads(one.config, other.config)) > 1:
        wanted = f"a model whose pad_token_id is {pads[0]}, as {own}'s: the head reads the last other token"
        yield Fault(path, name, f"{wanted}{instead}")


def _pads(*configs: ConfigDict) -> list[object]:
    return list(dict.fromkeys(config.get("pad_token_id") for config in configs))


def _unlike(own: Source, other: Source, name: str, *, with_labels: bool) -> str | None:
    """The remedy for a model that cannot read the token ids of `name`; None if it can."""
    wanted = f"a model with the tokenizer of {name}"
    if own.tokenizer is None or other.tokenizer is None:  # tokenizers made by the same settings are the same
        made_alike = own.tokenizer is other.tokenizer and own.config["vocab_size"] == other.config["vocab_size"]
        return None if made_alike else f"{wanted}, whose ids mean other words to this one"
    unlike = difference(own.tokenizer, other.tokenizer)
    if unlike == "words":
        return f"{wanted}, whose ids mean other words to this one"
    if unlike == "cuts":
        return f"{wanted}; this one's has the same words, and cuts text into others of them"
    if unlike == "samples" and with_labels:
        return f"{wanted}; this one's puts other special tokens around a text"
    return None
