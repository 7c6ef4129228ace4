"""OLMo-2 as another package would add it: one declaration, built of nothing but the family room's public parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from espalier.config.faults import Fault
from espalier.config.growth import FromScratch
from espalier.models.families.causal_heads import causal_classes, is_embedding_read
from espalier.models.families.config_rules import rope_faults
from espalier.models.families.family import ConfigReading, Family, ParameterTable, ScratchConfig
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

_CLASSIFIER = "Olmo2ForSequenceClassification"


def _layer(config: ConfigDict, shape: ModelShape, index: int) -> Table:
    """Norms over all query and all key entries, and one after each half; none before."""
    hidden, ffn = hidden_axis(shape), Axis("ffn", shape.ffn)
    query, key_value = query_axis(shape), key_value_axis(shape)
    bias = bool(config.get("attention_bias"))
    return (
        linear("self_attn.q_proj", out=query, into=hidden, bias=bias)
        | linear("self_attn.k_proj", out=key_value, into=hidden, bias=bias)
        | linear("self_attn.v_proj", out=key_value, into=hidden, bias=bias)
        | linear("self_attn.o_proj", out=hidden, into=query, bias=bias)
        | norm("self_attn.q_norm", query, bias=False)
        | norm("self_attn.k_norm", key_value, bias=False)
        | linear("mlp.gate_proj", out=ffn, into=hidden, bias=False)
        | linear("mlp.up_proj", out=ffn, into=hidden, bias=False)
        | linear("mlp.down_proj", out=hidden, into=ffn, bias=False)
        | norm("post_attention_layernorm", hidden, bias=False)
        | norm("post_feedforward_layernorm", hidden, bias=False)
    )


def _last_norm(config: ConfigDict, shape: ModelShape) -> Table:
    reads = is_embedding_read(config, shape, classifier=_CLASSIFIER)
    return last_norm("norm", shape, bias=False, into_embedding=reads)


def _resize(config: ConfigDict, shape: ModelShape, kept_layers: Sequence[int]) -> ConfigDict:
    return {"num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim}


def _scratch(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "olmo2",
        "architectures": ["Olmo2ForCausalLM"],
        "num_hidden_layers": settings.layers,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.ffn or 4 * settings.hidden,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads or settings.heads,
        "max_position_embeddings": settings.positions,
    }


def _scratch_faults(settings: FromScratch) -> Iterator[Fault]:
    if settings.dropout:
        yield Fault("dropout", settings.dropout, "0, as an OLMo-2 has none")


OLMO2 = Family(
    classes=causal_classes(
        language_model="Olmo2ForCausalLM", classifier=_CLASSIFIER, embedding="model.embed_tokens.weight"
    ),
    other_classes=("Olmo2Model",),
    causal=True,
    reading=ConfigReading(
        sizes={
            "layers": "num_hidden_layers",
            "hidden": "hidden_size",
            "ffn": "intermediate_size",
            "heads": "num_attention_heads",
        },
        kv_heads=lambda config: config.get("num_key_value_heads") or config["num_attention_heads"],
        head_dim=lambda config: config.get("head_dim"),
        faults=lambda config: rope_faults(config, head_dim=config.get("head_dim")),
    ),
    table=ParameterTable(
        body="model",
        layers="layers",
        before_layers=lambda config, shape: embedding("embed_tokens", vocabulary_axis(shape), hidden_axis(shape)),
        layer=_layer,
        after_layers=_last_norm,
        probe=Probe(
            layer="",
            down="mlp.down_proj",
            output="self_attn.o_proj",
            norms=("post_attention_layernorm", "post_feedforward_layernorm"),
        ),
    ),
    resize=_resize,
    norms_after=True,
    ends_in_projection=lambda config: False,
    scratch=ScratchConfig(build=_scratch, faults=_scratch_faults),
)
