"""Llama, Mistral, Qwen2 and Qwen3: gated MLP, RMSNorm before each half, rotary positions, grouped queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from espalier.config.faults import Fault
from espalier.config.growth import FromScratch
from espalier.models.families import config_rules as rules
from espalier.models.families.causal_heads import causal_classes, is_embedding_read
from espalier.models.families.family import ConfigReading, Family, ParameterTable, ScratchConfig, StoredNames
from espalier.models.families.parameter_specs import (
    Table,
    embedding,
    hidden_axis,
    key_value_axis,
    last_norm,
    linear,
    norm,
    query_axis,
    vocabulary_axis,
)
from espalier.models.shape import Axis, ConfigDict, ModelShape, Probe

_LAYER_TYPES = ("full_attention", "sliding_attention")


def _before_layers(config: ConfigDict, shape: ModelShape) -> Table:
    return embedding("embed_tokens", vocabulary_axis(shape), hidden_axis(shape))


def _layer(config: ConfigDict, shape: ModelShape, index: int) -> Table:
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


def _misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    if shape.family == "llama" and shape.hidden % shape.heads:
        wanted = f"a multiple of the {shape.heads} heads: stock transformers refuses any other Llama"
        return Fault("hidden", shape.hidden, wanted)
    return None


def _resize(config: ConfigDict, shape: ModelShape, kept_layers: Sequence[int]) -> ConfigDict:
    """The keys that follow a new shape: KV heads, head width and, in Qwen, which layers have a window."""
    changed: ConfigDict = {"num_key_value_heads": shape.kv_heads}
    if config.get("head_dim") is not None or shape.hidden != shape.heads * shape.head_dim:
        changed["head_dim"] = shape.head_dim
    if types := config.get("layer_types") or _window_rule(config):
        changed["layer_types"] = [types[layer] for layer in kept_layers]
    if "max_window_layers" in config:
        changed["max_window_layers"] = min(config["max_window_layers"], len(kept_layers))
    return changed


def _window_rule(config: ConfigDict) -> list[str] | None:
    """Qwen's rule by layer number, written out as a list; None without windows."""
    if not config.get("use_sliding_window") or config.get("sliding_window", 4096) is None:  # silent: stock's 4096
        return None
    first = config.get("max_window_layers", 28)  # stock Qwen2 and Qwen3: from this layer on, a sliding window
    return [_LAYER_TYPES[layer >= first] for layer in range(config["num_hidden_layers"])]


def _window_faults(config: ConfigDict) -> Iterator[Fault]:
    """Faults of Qwen's `layer_types`, which Llama and Mistral do not read."""
    types, layers = config.get("layer_types"), config.get("num_hidden_layers")
    if types is None:
        return
    has_window = bool(config.get("use_sliding_window")) and config.get("sliding_window", 4096) is not None
    if not isinstance(types, list) or any(kind not in _LAYER_TYPES for kind in types):
        yield Fault("config.json: layer_types", types, f"a list of {' and '.join(_LAYER_TYPES)}")
    elif len(types) != layers:
        yield Fault("config.json: layer_types", types, f"one for each of the {layers} layers")
    elif "sliding_attention" in types and not has_window:
        allowed = "full_attention only, or use_sliding_window and a sliding_window"
        yield Fault("config.json: layer_types", types, allowed)


def _scratch(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": settings.layers,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.ffn or -(-8 * settings.hidden // 192) * 64,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads or settings.heads,
        "max_position_embeddings": settings.positions,
    }


def _scratch_faults(settings: FromScratch) -> Iterator[Fault]:
    if settings.kv_heads is not None and settings.heads % settings.kv_heads:
        yield Fault("kv_heads", settings.kv_heads, f"a divisor of the {settings.heads} heads")
    if settings.dropout:
        yield Fault("dropout", settings.dropout, f"0, as family {settings.family} has none")


def _family(
    name: str,
    *,
    default_kv_heads: int | None,
    default_head_dim: int | None = None,
    default_positions: int,
    windowed: bool = False,
    scratch: ScratchConfig | None = None,
) -> Family:
    """One of the four, with what its stock config takes where config.json is silent.

    An explicit null means no sharing (`num_key_value_heads`), or hidden / heads (`head_dim`).
    """
    classifier = f"{name}ForSequenceClassification"

    def head_dim(config: ConfigDict) -> object:
        return config.get("head_dim", default_head_dim)

    def kv_heads(config: ConfigDict) -> object:
        given = config.get("num_key_value_heads", default_kv_heads)
        return config["num_attention_heads"] if given is None else given

    def faults(config: ConfigDict) -> Iterator[Fault]:
        yield from rules.rope_faults(config, head_dim=head_dim(config))
        if windowed:
            yield from _window_faults(config)

    def after_layers(config: ConfigDict, shape: ModelShape) -> Table:
        reads = is_embedding_read(config, shape, classifier=classifier)
        return last_norm("norm", shape, bias=False, into_embedding=reads)

    return Family(
        classes=causal_classes(
            language_model=f"{name}ForCausalLM", classifier=classifier, embedding="model.embed_tokens.weight"
        ),
        other_classes=tuple(f"{name}{end}" for end in ("Model", "ForTokenClassification", "ForQuestionAnswering")),
        causal=True,
        reading=ConfigReading(
            sizes={
                "layers": "num_hidden_layers",
                "hidden": "hidden_size",
                "ffn": "intermediate_size",
                "heads": "num_attention_heads",
            },
            kv_heads=kv_heads,
            head_dim=head_dim,
            default_positions=default_positions,
            rules={
                **dict.fromkeys(("mlp_bias", "use_sliding_window"), rules.SWITCH),
                "sliding_window": rules.SIZE,
                "max_window_layers": rules.COUNT,
            },
            faults=faults,
        ),
        table=ParameterTable(
            body="model",
            layers="layers",
            before_layers=_before_layers,
            layer=_layer,
            after_layers=after_layers,
            probe=Probe(
                layer="",
                down="mlp.down_proj",
                output="self_attn.o_proj",
                norms=("input_layernorm", "post_attention_layernorm"),
            ),
        ),
        stored=StoredNames(buffers=("rotary_emb.inv_freq",)),
        misfit=_misfit,
        resize=_resize,
        ends_in_projection=lambda config: True,
        scratch=scratch,
    )


LLAMA = _family(
    "Llama",
    default_kv_heads=None,
    default_positions=2048,
    scratch=ScratchConfig(build=_scratch, faults=_scratch_faults),
)
MISTRAL = _family("Mistral", default_kv_heads=8, default_positions=131072)
QWEN2 = _family("Qwen2", default_kv_heads=32, default_positions=32768, windowed=True)
QWEN3 = _family("Qwen3", default_kv_heads=32, default_head_dim=128, default_positions=32768, windowed=True)
