"""GPT-2: LayerNorm before each half, fused q-k-v, transposed weights (`Conv1D`), a learned position table."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.growth import FromScratch
from espalier.models.families import config_rules as rules
from espalier.models.families.causal_heads import causal_classes, is_embedding_read
from espalier.models.families.family import ConfigReading, Family, ParameterTable, ScratchConfig, StoredNames
from espalier.models.families.parameter_specs import (
    Table,
    conv1d,
    embedding,
    hidden_axis,
    key_value_axis,
    last_norm,
    norm,
    query_axis,
    vocabulary_axis,
)
from espalier.models.shape import Axis, ConfigDict, ModelShape, Probe

_CLASSIFIER = "GPT2ForSequenceClassification"


def _before_layers(config: ConfigDict, shape: ModelShape) -> Table:
    hidden, positions = hidden_axis(shape), Axis("positions", shape.positions)
    return embedding("wte", vocabulary_axis(shape), hidden) | embedding("wpe", positions, hidden)


def _layer(config: ConfigDict, shape: ModelShape, index: int) -> Table:
    hidden, ffn = hidden_axis(shape), Axis("ffn", shape.ffn)
    query, key_value = query_axis(shape), key_value_axis(shape)
    return (
        norm("ln_1", hidden, bias=True)
        | conv1d("attn.c_attn", into=hidden, out=(query, key_value, key_value))
        | conv1d("attn.c_proj", into=query, out=(hidden,))
        | norm("ln_2", hidden, bias=True)
        | conv1d("mlp.c_fc", into=hidden, out=(ffn,))
        | conv1d("mlp.c_proj", into=ffn, out=(hidden,))
    )


def _after_layers(config: ConfigDict, shape: ModelShape) -> Table:
    reads = is_embedding_read(config, shape, classifier=_CLASSIFIER)
    return last_norm("ln_f", shape, bias=True, into_embedding=reads)


def _misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    if shape.hidden != shape.heads * shape.head_dim:
        wanted = f"heads x {shape.head_dim}, as stock GPT-2 has it: change hidden and heads together"
        return Fault("hidden", shape.hidden, wanted)
    if config.get("scale_attn_by_inverse_layer_idx") and shape.layers != config["n_layer"]:
        wanted = "all layers, since `scale_attn_by_inverse_layer_idx` scales each by its number"
        return Fault("layers", shape.layers, wanted)
    return None


def _scratch(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": settings.layers,
        "n_embd": settings.hidden,
        "n_inner": settings.ffn or 4 * settings.hidden,
        "n_head": settings.heads,
        "n_positions": settings.positions,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.dropout),
    }


def _scratch_faults(settings: FromScratch) -> Iterator[Fault]:
    if settings.kv_heads is not None:
        yield Fault("kv_heads", settings.kv_heads, "leave it out; the heads of a gpt2 share no keys")


GPT2 = Family(
    classes=causal_classes(
        language_model="GPT2LMHeadModel", classifier=_CLASSIFIER, embedding="transformer.wte.weight"
    ),
    other_classes=("GPT2Model", "GPT2DoubleHeadsModel", "GPT2ForTokenClassification", "GPT2ForQuestionAnswering"),
    causal=True,
    reading=ConfigReading(
        sizes={"layers": "n_layer", "hidden": "n_embd", "ffn": "n_inner", "heads": "n_head"},
        optional_sizes=("n_inner",),
        positions=lambda config: config.get("n_positions", 1024),
        tied_by_default=True,
        forbidden=("add_cross_attention",),
        rules={
            "activation_function": rules.ACTIVATION,
            "layer_norm_epsilon": rules.SMALL,
            "n_positions": rules.SIZE,
            **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), rules.SHARE),
            **dict.fromkeys(
                ("reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "scale_attn_weights"), rules.SWITCH
            ),
        },
    ),
    table=ParameterTable(
        body="transformer",
        layers="h",
        before_layers=_before_layers,
        layer=_layer,
        after_layers=_after_layers,
        probe=Probe(layer="", down="mlp.c_proj", output="attn.c_proj", norms=("ln_1", "ln_2")),
    ),
    stored=StoredNames(
        buffers=(".attn.bias", ".attn.masked_bias"),
        heads=(*StoredNames().heads, "multiple_choice_head."),
    ),
    misfit=_misfit,
    ends_in_projection=lambda config: not config.get("resid_pdrop", 0.1),
    scratch=ScratchConfig(build=_scratch, faults=_scratch_faults),
)
