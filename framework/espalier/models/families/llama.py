"""Llama, Mistral, Qwen2 and Qwen3: gated MLP, RMSNorm before each half, rotary positions, grouped queries."""

from __future__ import annotations

from espalier.config.faults import Fault
from espalier.models.families.pieces import (
    Table,
    decoder_head,
    embedding,
    hidden_axis,
    key_value_axis,
    last_norm,
    linear,
    norm,
    query_axis,
    reads_embedding,
    vocabulary_axis,
)
from espalier.models.shape import Axis, ConfigDict, ModelShape, Probe

SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "heads": "num_attention_heads",
}
_NAMES = ("Llama", "Mistral", "Qwen2", "Qwen3")
ARCHITECTURES = tuple(f"{name}For{head}" for head in ("CausalLM", "SequenceClassification") for name in _NAMES)
TIED_BY_DEFAULT = False
CAUSAL = True
POST_NORM = False
FORBIDDEN: tuple[str, ...] = ()

# What stock transformers takes where the config is silent. An explicit null: no sharing, or hidden / heads.
_DEFAULT_KV_HEADS = {"llama": None, "mistral": 8, "qwen2": 32, "qwen3": 32}
_DEFAULT_HEAD_DIM = {"llama": None, "mistral": None, "qwen2": None, "qwen3": 128}


def kv_heads(config: ConfigDict) -> object:
    """The number of KV heads as stock transformers reads it."""
    given = config.get("num_key_value_heads", _DEFAULT_KV_HEADS[config["model_type"]])
    return config["num_attention_heads"] if given is None else given


def head_dim(config: ConfigDict) -> object:
    """The head width that is given, or None where it follows from hidden / heads."""
    return config.get("head_dim", _DEFAULT_HEAD_DIM[config["model_type"]])


def positions(config: ConfigDict) -> int:
    """No position table: rotary."""
    return 0


def outside(config: ConfigDict, shape: ModelShape) -> tuple[Table, Table]:
    """Parameters before and after the layers."""
    hidden, vocabulary = hidden_axis(shape), vocabulary_axis(shape)
    head = decoder_head(config, shape, ARCHITECTURES[0])
    last = last_norm("model.norm", shape, bias=False, into_embedding=reads_embedding(config, shape, ARCHITECTURES[0]))
    return embedding("model.embed_tokens", vocabulary, hidden), last | head


def layer(config: ConfigDict, shape: ModelShape) -> Table:
    """Parameters of one layer, named from the layer on."""
    hidden, ffn = hidden_axis(shape), Axis("ffn", shape.ffn)
    mlp_bias = config["model_type"] == "llama" and bool(config.get("mlp_bias"))
    return (
        _attention(config, shape)
        | linear("mlp.gate_proj", out=ffn, into=hidden, bias=mlp_bias)
        | linear("mlp.up_proj", out=ffn, into=hidden, bias=mlp_bias)
        | linear("mlp.down_proj", out=hidden, into=ffn, bias=mlp_bias)
        | norm("input_layernorm", hidden, bias=False)
        | norm("post_attention_layernorm", hidden, bias=False)
    )


def body(config: ConfigDict) -> str:
    return "model"


def layer_path(config: ConfigDict, index: int) -> str:
    return f"model.layers.{index}"


def probe(config: ConfigDict, index: int) -> Probe:
    at = layer_path(config, index)
    norms = (f"{at}.input_layernorm", f"{at}.post_attention_layernorm")
    return Probe(layer=at, down=f"{at}.mlp.down_proj", output=f"{at}.self_attn.o_proj", norms=norms)


def misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    """Why stock transformers would not load this shape, or None."""
    if shape.family == "llama" and shape.hidden % shape.heads:
        wanted = f"a multiple of the {shape.heads} heads: stock transformers refuses any other Llama"
        return Fault("hidden", shape.hidden, wanted)
    return None


def resize(config: ConfigDict, shape: ModelShape) -> ConfigDict:
    """Settings beyond the four sizes that follow a new shape."""
    changed: ConfigDict = {"num_key_value_heads": shape.kv_heads}
    if config.get("head_dim") is not None or shape.hidden != shape.heads * shape.head_dim:
        changed["head_dim"] = shape.head_dim
    return changed


def _attention(config: ConfigDict, shape: ModelShape) -> Table:
    hidden, query, key_value = hidden_axis(shape), query_axis(shape), key_value_axis(shape)
    bias = config["model_type"] in ("llama", "qwen3") and bool(config.get("attention_bias"))
    qkv_bias = bias or config["model_type"] == "qwen2"
    table = (
        linear("self_attn.q_proj", out=query, into=hidden, bias=qkv_bias)
        | linear("self_attn.k_proj", out=key_value, into=hidden, bias=qkv_bias)
        | linear("self_attn.v_proj", out=key_value, into=hidden, bias=qkv_bias)
        | linear("self_attn.o_proj", out=hidden, into=query, bias=bias)
    )
    if config["model_type"] == "qwen3":
        width = Axis("head_dim", shape.head_dim)
        table |= norm("self_attn.q_norm", width, bias=False) | norm("self_attn.k_norm", width, bias=False)
    return table
