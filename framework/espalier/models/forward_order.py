"""Where in the forward pass each parameter is used: what is trained decides how far down the backward pass goes."""

from __future__ import annotations

from espalier.models.families import family_of, layout, probes, shape_of
from espalier.models.shape import ConfigDict, Parameter

Place = tuple[int, ...]
"""(layer, place inside it), in the order of the forward pass; layer -1 is what comes before the layers, and the number
of layers what follows them. Places inside a layer and after the layers are named below; further numbers order what is
added at one of them."""

FIRST_NORM, QUERY_KEY_VALUE, ATTENTION, ATTENTION_OUT, MIDDLE_NORM, FFN_IN, FFN_OUT, LAST_NORM = range(8)
FINAL_NORM, HEAD_LAYER, HEAD_NORM, LAST_MAP = range(4)


def places(config: ConfigDict) -> dict[str, Place]:
    """Of every parameter, by name, where it is used first: of a tied embedding that is before the layers."""
    parameters, layers = layout(config), shape_of(config).layers
    norms = _norm_places(config)
    found: dict[str, Place] = {}
    layer = -1
    for name, parameter in parameters.items():
        if parameter.layer is not None:
            layer, inside = parameter.layer, norms.get(_module(name))
            found[name] = (layer, _inside_layer(name, parameters) if inside is None else inside)
        elif layer < 0:
            found[name] = (-1, 0)
        else:
            has_head_layer = (layers, HEAD_LAYER) in found.values()
            found[name] = (layers, _after_layers(name, parameters, has_head_layer=has_head_layer))
    return found


def _norm_places(config: ConfigDict) -> dict[str, int]:
    """Of each layer's two norms, by module path."""
    two = (MIDDLE_NORM, LAST_NORM) if family_of(config).norms_after else (FIRST_NORM, MIDDLE_NORM)
    return {path: place for probe in probes(config) for path, place in zip(probe.norms, two, strict=True)}


def _inside_layer(name: str, parameters: dict[str, Parameter]) -> int:
    """Of a matrix or its bias; what norms each head's queries or keys counts with them."""
    read, written = _kinds(parameters[f"{_module(name)}.weight"])
    if "ffn" in read | written:
        return FFN_OUT if "ffn" in read else FFN_IN
    return ATTENTION_OUT if "heads" in read else QUERY_KEY_VALUE


def _after_layers(name: str, parameters: dict[str, Parameter], *, has_head_layer: bool) -> int:
    module = parameters.get(f"{_module(name)}.weight", parameters[name])
    read, written = _kinds(module)
    if (read | written) - {"hidden"}:
        return LAST_MAP
    if len(module.dimensions) > 1:
        return HEAD_LAYER
    return HEAD_NORM if has_head_layer else FINAL_NORM


def _kinds(parameter: Parameter) -> tuple[set[str], set[str]]:
    """Kinds of the axes that a parameter reads, and of the others."""
    axes = [part for dimension in parameter.dimensions for part in dimension]
    return {axis.kind for axis in axes if axis.is_read}, {axis.kind for axis in axes if not axis.is_read}


def _module(name: str) -> str:
    return name.rpartition(".")[0]
