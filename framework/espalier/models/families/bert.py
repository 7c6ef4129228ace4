"""BERT: LayerNorm after each half, learned positions and token types; bare, masked-LM or classifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from espalier.config.faults import Fault
from espalier.config.growth import FromScratch
from espalier.models.families import config_rules as rules
from espalier.models.families.family import (
    ConfigReading,
    Family,
    ParameterTable,
    ScratchConfig,
    StockClass,
    StoredNames,
)
from espalier.models.families.parameter_specs import (
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

if TYPE_CHECKING:
    from torch import Tensor, nn

_WORDS = "bert.embeddings.word_embeddings.weight"


def _token_types(config: ConfigDict) -> int:
    return int(config.get("type_vocab_size", 2))


def _before_layers(config: ConfigDict, shape: ModelShape) -> Table:
    hidden = hidden_axis(shape)
    return (
        embedding("embeddings.word_embeddings", vocabulary_axis(shape), hidden)
        | embedding("embeddings.position_embeddings", Axis("positions", shape.positions), hidden)
        | embedding("embeddings.token_type_embeddings", Axis("token_types", _token_types(config)), hidden)
        | norm("embeddings.LayerNorm", hidden, bias=True)
    )


def _layer(config: ConfigDict, shape: ModelShape, index: int) -> Table:
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


def _has_pooler(config: ConfigDict) -> bool:
    return (config.get("architectures") or [None])[0] != "BertForMaskedLM"


def _after_layers(config: ConfigDict, shape: ModelShape) -> Table:
    hidden = hidden_axis(shape)
    return linear("pooler.dense", out=hidden, into=hidden, bias=True) if _has_pooler(config) else {}


def _row_flops(config: ConfigDict, shape: ModelShape) -> int:
    """Stock BERT applies its pooler to the first token of every row, whoever reads it."""
    return 2 * shape.hidden**2 if _has_pooler(config) else 0


def _masked_lm(config: ConfigDict, shape: ModelShape) -> Table:
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


def _transform(model: nn.Module, hidden: Tensor) -> Tensor:
    return model.get_submodule("cls.predictions.transform")(hidden)


def _pooled(model: nn.Module, hidden: Tensor) -> Tensor:
    """Pooler and dropout, at every token; only the first token has a label."""
    dense, activation = model.get_submodule("bert.pooler.dense"), model.get_submodule("bert.pooler.activation")
    return model.get_submodule("dropout")(activation(dense(hidden)))


def _one_matrix(shape: ModelShape) -> int:
    return 2 * shape.hidden**2


def _misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    if shape.hidden != shape.heads * shape.head_dim:
        wanted = f"heads x {shape.head_dim}, as stock BERT has it: change hidden and heads together"
        return Fault("hidden", shape.hidden, wanted)
    return None


def _scratch(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "num_hidden_layers": settings.layers,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.ffn or 4 * settings.hidden,
        "num_attention_heads": settings.heads,
        "max_position_embeddings": settings.positions,
        **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout),
    }


def _scratch_faults(settings: FromScratch) -> Iterator[Fault]:
    if settings.kv_heads is not None:
        yield Fault("kv_heads", settings.kv_heads, "leave it out; the heads of a bert share no keys")


BERT = Family(
    classes={
        "BertModel": StockClass(head_kind="none"),
        "BertForMaskedLM": StockClass(
            head_kind="masked_lm",
            head="cls.predictions.decoder",
            before_head=_transform,
            parameters=_masked_lm,
            ties={
                "cls.predictions.decoder.weight": _WORDS,
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            },
            stored_as="cls.predictions.transform.",
            transform_flops=_one_matrix,
        ),
        "BertForSequenceClassification": StockClass(
            head_kind="classifier",
            head="classifier",
            before_head=_pooled,
            parameters=_classifier,
            initialised=("classifier.", "bert.pooler."),
            transform_flops=_one_matrix,
        ),
    },
    other_classes=(
        *("BertForPreTraining", "BertForTokenClassification", "BertForQuestionAnswering"),
        *("BertForNextSentencePrediction", "BertForMultipleChoice"),
    ),
    causal=False,
    reading=ConfigReading(
        sizes={
            "layers": "num_hidden_layers",
            "hidden": "hidden_size",
            "ffn": "intermediate_size",
            "heads": "num_attention_heads",
        },
        positions=lambda config: config.get("max_position_embeddings", 512),
        tied_by_default=True,
        forbidden=("is_decoder", "add_cross_attention"),
        rules={
            "layer_norm_eps": rules.SMALL,
            "type_vocab_size": rules.SIZE,
            "position_embedding_type": rules.ConfigRule("absolute", lambda value: value == "absolute"),
            **dict.fromkeys(("attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout_prob"), rules.SHARE),
        },
    ),
    table=ParameterTable(
        body="bert",
        layers="encoder.layer",
        before_layers=_before_layers,
        layer=_layer,
        after_layers=_after_layers,
        probe=Probe(
            layer="",
            down="output.dense",
            output="attention.output.dense",
            norms=("attention.output.LayerNorm", "output.LayerNorm"),
        ),
    ),
    stored=StoredNames(
        renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
        buffers=("position_ids",),
        heads=(*StoredNames().heads, "cls.", "pooler."),
    ),
    misfit=_misfit,
    residual_norm=True,
    norms_after=True,
    ends_in_projection=lambda config: False,
    row_flops=_row_flops,
    inputs=("token_type_ids",),
    token_types=_token_types,
    scratch=ScratchConfig(build=_scratch, faults=_scratch_faults),
)
