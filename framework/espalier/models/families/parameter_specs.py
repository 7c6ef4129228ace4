"""Building blocks of a family's table: the parameters of a module, each with its logical axes."""

from __future__ import annotations

from dataclasses import replace

from espalier.models.shape import Axis, ConfigDict, Dimension, ModelShape

Table = dict[str, tuple[Dimension, ...]]
"""Parameter name -> axes per dimension, in the order of `named_parameters()`."""


def linear(name: str, *, out: Axis, into: Axis, bias: bool) -> Table:
    """`nn.Linear`: weight [out, in]."""
    weight: Table = {f"{name}.weight": ((out,), (_read(into),))}
    return weight | ({f"{name}.bias": ((out,),)} if bias else {})


def conv1d(name: str, *, into: Axis, out: Dimension) -> Table:
    """Transformers' `Conv1D`: a linear map whose weight lies transposed, [in, out]; `out` may be several parts."""
    return {f"{name}.weight": ((_read(into),), out), f"{name}.bias": (out,)}


def embedding(name: str, rows: Axis, columns: Axis) -> Table:
    """`nn.Embedding`: weight [rows, columns]."""
    return {f"{name}.weight": ((rows,), (columns,))}


def norm(name: str, axis: Axis, *, bias: bool) -> Table:
    """RMSNorm (no bias) or LayerNorm over one axis."""
    axis = replace(axis, is_normed=True)
    weight: Table = {f"{name}.weight": ((axis,),)}
    return weight | ({f"{name}.bias": ((axis,),)} if bias else {})


def last_norm(name: str, shape: ModelShape, *, bias: bool, into_embedding: bool) -> Table:
    """The norm before the head; it counts as read where the head is the embedding, whose columns are written too."""
    axis = hidden_axis(shape)
    return norm(name, _read(axis) if into_embedding else axis, bias=bias)


def hidden_axis(shape: ModelShape) -> Axis:
    return Axis("hidden", shape.hidden)


def vocabulary_axis(shape: ModelShape) -> Axis:
    return Axis("vocabulary", shape.vocabulary)


def query_axis(shape: ModelShape) -> Axis:
    return Axis("heads", shape.heads, shape.head_dim)


def key_value_axis(shape: ModelShape) -> Axis:
    """Keys and values: their own axis when query heads share them, the query heads' axis when not."""
    shared = shape.kv_heads != shape.heads
    return Axis("kv_heads" if shared else "heads", shape.kv_heads, shape.head_dim)


def labels_axis(config: ConfigDict) -> Axis:
    """Classes of a classifier, or the one value of a regression; two where the config is silent, as in stock code."""
    return Axis("labels", len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2)))


def _read(axis: Axis) -> Axis:
    return replace(axis, is_read=True)
