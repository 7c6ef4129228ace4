"""What the values of config.json keys must be for stock code to compute with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from espalier.config.faults import Fault
from espalier.models.shape import ConfigDict

ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "laplace"),
    *("leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu", "swish", "tanh"),
)
"""Names that every supported transformers knows."""
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class ConfigRule:
    """What the value of a key must be, where it is given and not null."""

    allowed: str
    holds: Callable[[object], bool]


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """A whole number from `least` to what 32 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


SIZE = ConfigRule("a positive whole number", lambda value: is_whole(value, 1))
COUNT = ConfigRule("a whole number of at least 0", lambda value: is_whole(value, 0))
SMALL = ConfigRule("a number above 0 and below 1", lambda value: is_number(value) and 0 < value < 1)
SHARE = ConfigRule("a number from 0 to below 1", lambda value: is_number(value) and 0 <= value < 1)
SWITCH = ConfigRule("true or false", lambda value: isinstance(value, bool))
ACTIVATION = ConfigRule(
    f"one of {', '.join(ACTIVATIONS)}", lambda value: isinstance(value, str) and value in ACTIVATIONS
)


def rope_faults(config: ConfigDict, *, head_dim: object | None) -> Iterator[Fault]:
    """Settings of rotary positions that stock code cannot use.

    Args:
        head_dim: as the family reads it; hidden / heads where None.
    """
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if settings is None:
            continue
        if not isinstance(settings, dict):
            yield Fault(f"config.json: {key}", settings, "null, or an object with a rope_type")
            continue
        yield from _scaling_faults(key, settings)
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if head_dim is None and is_whole(heads, 1) and is_whole(hidden, 1):
        head_dim = hidden // heads
    if isinstance(head_dim, int) and head_dim % 2:
        yield Fault("config.json: head_dim", head_dim, "an even number: rotary positions turn pairs")


def _scaling_faults(key: str, settings: ConfigDict) -> Iterator[Fault]:
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind not in ROPE_TYPES:
        yield Fault(f"config.json: {key}.rope_type", kind, f"one of {', '.join(ROPE_TYPES)}")
    for name in ("rope_theta", "factor", "low_freq_factor", "high_freq_factor"):
        value = settings.get(name)
        if value is not None and not (is_number(value) and value > 0):
            yield Fault(f"config.json: {key}.{name}", value, "a number above 0")
    if kind not in ("default", "longrope") and settings.get("factor") is None:
        yield Fault(f"config.json: {key}.factor", None, f"a number of at least 1, as rope_type {kind} asks")
