"""BERT: LayerNorm after each half, learned positions and token types; bare, masked-LM or classifier."""

from __future__ import annotations

from espalier.config.faults import Fault
from espalier.models.families.pieces import (
    Table,
    embedding,
    hidden_axis,
    key_value_axis,
    labels_axis,
    last_norm,
    linear,
    norm,
    query_axis,
    vocabulary_axis,
)
from espalier.models.shape import Axis, ConfigDict, ModelShape, Probe

SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "heads": "num_attention_heads",
}
ARCHITECTURES = ("BertModel", "BertForMaskedLM", "BertForSequenceClassification")
TIED_BY_DEFAULT = True
CAUSAL = False
POST_NORM = True
FORBIDDEN = ("is_decoder", "add_cross_attention")


def kv_heads(config: ConfigDict) -> object:
    return config["num_attention_heads"]


def head_dim(config: ConfigDict) -> None:
    """Always hidden / heads."""
    return None


def positions(config: ConfigDict) -> object:
    return config.get("max_position_embeddings", 512)


def outside(config: ConfigDict, shape: ModelShape) -> tuple[Table, Table]:
    """Parameters before and after the layers."""
    hidden, at = hidden_axis(shape), _path(config, "embeddings")
    token_types = Axis("token_types", int(config.get("type_vocab_size", 2)))
    before = (
        embedding(f"{at}.word_embeddings", vocabulary_axis(shape), hidden)
        | embedding(f"{at}.position_embeddings", Axis("positions", shape.positions), hidden)
        | embedding(f"{at}.token_type_embeddings", token_types, hidden)
        | norm(f"{at}.LayerNorm", hidden, bias=True)
    )
    match _architecture(config):
        case "BertForMaskedLM":
            return before, _masked_lm(shape)
        case "BertForSequenceClassification":
            return before, _pooler(config, shape) | _classifier(config, shape)
    return before, _pooler(config, shape)


def layer(config: ConfigDict, shape: ModelShape) -> Table:
    """Parameters of one layer, named from the layer on."""
    hidden, ffn = hidden_axis(shape), Axis("ffn", shape.ffn)
    query, key_value = query_axis(shape), key_value_axis(shape)
    return (
        linear("attention.self.query", out=query, into=hidden, bias=True)
        | linear("attention.self.key", out=key_value, into=hidden, bias=True)
        | linear("attention.self.value", out=key_value, into=hidden, bias=True)
        | linear("attention.output.dense", out=hidden, into=query, bias=True)
        | norm("attention.output.LayerNorm", hidden, bias=True)
        | linear("intermediate.dense", out=ffn, into=hidden, bias=True)
        | linear("output.dense", out=hidden, into=ffn, bias=True)
        | norm("output.LayerNorm", hidden, bias=True)
    )


def body(config: ConfigDict) -> str:
    """A bare BertModel is its own body."""
    return "" if _architecture(config) == "BertModel" else "bert"


def layer_path(config: ConfigDict, index: int) -> str:
    return _path(config, f"encoder.layer.{index}")


def probe(config: ConfigDict, index: int) -> Probe:
    at = layer_path(config, index)
    norms = (f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm")
    return Probe(layer=at, down=f"{at}.output.dense", output=f"{at}.attention.output.dense", norms=norms)


def misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    """Why stock transformers would not load this shape, or None."""
    if shape.hidden != shape.heads * shape.head_dim:
        wanted = f"heads x {shape.head_dim}, as stock BERT has it: change hidden and heads together"
        return Fault("hidden", shape.hidden, wanted)
    return None


def resize(config: ConfigDict, shape: ModelShape) -> ConfigDict:
    """Nothing follows beyond the four sizes."""
    return {}


def _architecture(config: ConfigDict) -> str:
    return (config.get("architectures") or ARCHITECTURES)[0]


def _path(config: ConfigDict, name: str) -> str:
    return f"{body(config)}.{name}".removeprefix(".")


def _pooler(config: ConfigDict, shape: ModelShape) -> Table:
    hidden = hidden_axis(shape)
    return linear(_path(config, "pooler.dense"), out=hidden, into=hidden, bias=True)


def _masked_lm(shape: ModelShape) -> Table:
    hidden, vocabulary = hidden_axis(shape), vocabulary_axis(shape)
    decoder = {} if shape.tied else linear("cls.predictions.decoder", out=vocabulary, into=hidden, bias=True)
    return (
        {"cls.predictions.bias": ((vocabulary,),)}  # shared with the decoder's bias where that is tied
        | linear("cls.predictions.transform.dense", out=hidden, into=hidden, bias=True)
        | last_norm("cls.predictions.transform.LayerNorm", shape, bias=True, into_embedding=shape.tied)
        | decoder
    )


def _classifier(config: ConfigDict, shape: ModelShape) -> Table:
    return linear("classifier", out=labels_axis(config), into=hidden_axis(shape), bias=True)
