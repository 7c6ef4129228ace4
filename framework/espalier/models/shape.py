"""What an architecture is described with: sizes, logical axes, parameters, modules to measure at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

AxisKind = Literal["hidden", "ffn", "heads", "kv_heads", "head_dim", "vocabulary", "positions", "token_types", "labels"]
ConfigDict = dict[str, Any]
"""The content of a Hugging Face `config.json`. Each family has keys of its own and transformers declares no types for
them, so what is read here is checked where it becomes a `ModelShape`.
"""


@dataclass(frozen=True)
class ModelShape:
    """The sizes that surgery changes and planning counts.

    Attributes:
        family: the config's `model_type`.
        ffn: neurons of one layer's MLP; of the widest, in a family whose layers differ.
        heads: query heads; of the widest layer.
        kv_heads: key-value heads; equal to `heads` in plain multi-head attention.
        head_dim: width of one head; need not be hidden / heads.
        positions: rows of the learned position table; 0 where there is none.
        tied: whether the head's weight is the embedding.
    """

    family: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int
    tied: bool

    @property
    def head_groups(self) -> int:
        """Groups of query heads that shrink alike: one per shared KV head, or all heads in one."""
        return 1 if self.kv_heads == self.heads else self.kv_heads

    def cut(
        self,
        *,
        layers: int | None = None,
        hidden: int | None = None,
        ffn: int | None = None,
        heads: int | None = None,
    ) -> ModelShape:
        """The shape with some sizes replaced; head width stays, and so do shared KV heads."""
        heads = heads or self.heads
        return replace(
            self,
            layers=layers or self.layers,
            hidden=hidden or self.hidden,
            ffn=ffn or self.ffn,
            heads=heads,
            kv_heads=heads if self.kv_heads == self.heads else self.kv_heads,
        )


@dataclass(frozen=True)
class Axis:
    """`units` consecutive units of `width` entries each; a unit is what surgery keeps or drops whole.

    Keys and values that are not shared between query heads belong to the axis `heads`: they come and go with
    their query head. Shared ones are `kv_heads`, which no surgery cuts.

    Attributes:
        is_read: whether a sum over this axis follows (the input of a linear map; the norm before a head that is the
            embedding) rather than entries that are written to it. Growth divides the one among copies.
        is_normed: whether a norm takes its statistics over this axis. Growth copies all its units equally often.
    """

    kind: AxisKind
    units: int
    width: int = 1
    is_read: bool = False
    is_normed: bool = False

    @property
    def size(self) -> int:
        return self.units * self.width


Dimension = tuple[Axis, ...]
"""The parts that follow one another along one dimension of a tensor: one, or three in a fused q-k-v."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: its logical axes, and the layer it belongs to (None outside the layers)."""

    dimensions: tuple[Dimension, ...]
    layer: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(sum(part.size for part in dimension) for dimension in self.dimensions)

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Probe:
    """Where one layer is measured: module paths as `model.get_submodule` takes them.

    Attributes:
        layer: the layer itself; its first input and first output are hidden states.
        down: the MLP's second projection; its input holds the FFN neurons.
        output: the attention's output projection; its input holds the heads side by side.
        norms: the layer's two norms over the hidden axis.
    """

    layer: str
    down: str
    output: str
    norms: tuple[str, str]

    def inside(self, layer: str) -> Probe:
        """A probe whose paths begin inside a layer, with the path of the layer put before them."""
        first, second = (f"{layer}.{norm}" for norm in self.norms)
        return Probe(layer, f"{layer}.{self.down}", f"{layer}.{self.output}", (first, second))
