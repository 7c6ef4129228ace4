"""Names of tensors in published folders, matched with the names of `named_parameters()`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from espalier.models.architecture import architecture
from espalier.models.families.layout import body_prefix, layout
from espalier.models.families.reading import shape_of
from espalier.models.shape import ConfigDict

_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", "position_ids")
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_PREFIXES = ("bert.", "model.", "transformer.")
_HEADS = ("lm_head.", "score.", "classifier.", "qa_outputs.", "cls.", "v_head.", "multiple_choice_head.", "pooler.")
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


@dataclass(frozen=True)
class Match:
    """What the tensors of a folder are to a model.

    Attributes:
        sources: parameter -> the tensor that is it.
        copies: tensor -> the parameter that it must equal: a tied head stored beside its embedding.
        left_out: tensors of heads that the model does not have, as stock `from_pretrained` leaves them out.
        unknown: tensors that nothing explains; a model without them would compute something else.
    """

    sources: dict[str, str]
    copies: dict[str, str]
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]


def match_names(found: Iterable[str], config: ConfigDict) -> Match:
    """Take the tensors of a folder for the parameters of a model, as stock `from_pretrained` of its class does.

    Published folders store a body with its prefix or without, name the two parts of a norm as TensorFlow did, carry
    buffers that are computed today, heads of other tasks, and a tied head beside the embedding it equals, or alone.
    """
    expected, prefix, ties = set(layout(config)), body_prefix(config), tied_names(config)
    modules = {name.rpartition(".")[0] for name in expected}
    sources: dict[str, str] = {}
    copies: dict[str, str] = {}
    left_out, unknown = [], []
    for name in sorted(found):
        current = _renamed(name)
        parameter = next((one for one in _candidates(current, prefix) if one in expected), None)
        if parameter is not None and parameter not in sources:
            sources[parameter] = name
        elif name.endswith(_BUFFERS):
            continue
        elif current in ties:
            copies[name] = ties[current]
        elif parameter is None and _is_head(current) and current.rpartition(".")[0] not in modules:
            left_out.append(name)
        else:
            unknown.append(name)
    for name, parameter in list(copies.items()):
        if parameter not in sources:  # the tie is stored under the head's name alone
            sources[parameter] = name
            del copies[name]
    return Match(sources, copies, tuple(left_out), tuple(unknown))


def has_masked_lm_head(found: Iterable[str]) -> bool:
    """Whether the tensors of a folder hold the head that fills in masks."""
    return any(name.startswith("cls.predictions.transform.") for name in found)


def tied_names(config: ConfigDict) -> dict[str, str]:
    """Other names of tied parameters, of which some folders store them -> the name that `layout` has."""
    expected = set(layout(config))
    if not shape_of(config).tied or not architecture(config).endswith(_LANGUAGE_MODELS):
        return {}
    table = next(name for name in expected if name.endswith(_EMBEDDINGS))
    ties = {
        "lm_head.weight": table,
        "cls.predictions.decoder.weight": table,
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    return {name: parameter for name, parameter in ties.items() if parameter in expected}


def _renamed(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _candidates(name: str, prefix: str) -> tuple[str, ...]:
    """What a tensor's parameter may be called: as it is, with the body's prefix, without the one it has."""
    stripped = [name.removeprefix(one) for one in _PREFIXES if not prefix and name.startswith(one)]
    return (name, *([f"{prefix}.{name}"] if prefix else []), *stripped)


def _is_head(name: str) -> bool:
    bare = next((name.removeprefix(one) for one in _PREFIXES if name.startswith(one)), name)
    return bare.startswith(_HEADS)
