"""Names of tensors in published folders, matched with the names of `named_parameters()`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from espalier.models.families.family import Family
from espalier.models.families.layout import body_prefix, layout
from espalier.models.families.reading import family_of, shape_of, stock_class
from espalier.models.shape import ConfigDict


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
    family, expected, ties = family_of(config), set(layout(config)), tied_names(config)
    body, has_prefix = family.table.body, bool(body_prefix(config))
    modules = {name.rpartition(".")[0] for name in expected}
    sources: dict[str, str] = {}
    copies: dict[str, str] = {}
    left_out, unknown = [], []
    for name in sorted(found):
        current = _renamed(name, family)
        candidates = (current, f"{body}.{current}" if has_prefix else current.removeprefix(f"{body}."))
        parameter = next((one for one in candidates if one in expected), None)
        if parameter is not None and parameter not in sources:
            sources[parameter] = name
        elif name.endswith(family.stored.buffers):
            continue
        elif current in ties:
            copies[name] = ties[current]
        elif parameter is None and _is_head(current, family) and current.rpartition(".")[0] not in modules:
            left_out.append(name)
        else:
            unknown.append(name)
    for name, parameter in list(copies.items()):
        if parameter not in sources:  # the tie is stored under the head's name alone
            sources[parameter] = name
            del copies[name]
    return Match(sources, copies, tuple(left_out), tuple(unknown))


def has_masked_lm_head(found: Iterable[str], family: Family) -> bool:
    """Whether the tensors of a folder hold the head that fills in masks."""
    marks = [one.stored_as for one in family.classes.values() if one.head_kind == "masked_lm" and one.stored_as]
    return any(name.startswith(tuple(marks)) for name in found)


def tied_names(config: ConfigDict) -> dict[str, str]:
    """Other names of tied parameters, which folders may store them under -> the name that `layout` has."""
    return dict(stock_class(config).ties) if shape_of(config).tied else {}


def _renamed(name: str, family: Family) -> str:
    for old, new in family.stored.renamed.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _is_head(name: str, family: Family) -> bool:
    return name.removeprefix(f"{family.table.body}.").startswith(family.stored.heads)
