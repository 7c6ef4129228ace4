"""Reading a config refuses what the tables do not describe, in words that help."""

from __future__ import annotations

import pytest

from espalier.config.faults import RefusedInput
from espalier.models.families import shape_of
from support.architectures import CONFIGS


def test_sizes_that_a_config_leaves_open_follow_stock_code():
    assert shape_of(CONFIGS["llama_unshared"]).kv_heads == 6
    assert shape_of(CONFIGS["llama_unshared"]).head_dim == 10
    assert shape_of(CONFIGS["gpt2"]).ffn == 4 * 35
    assert shape_of({**CONFIGS["gpt2"], "tie_word_embeddings": False}).tied is False
    as_published = {key: value for key, value in CONFIGS["gpt2"].items() if key != "n_inner"}
    assert shape_of(as_published).ffn == 4 * 35
    silent = {k: v for k, v in CONFIGS["mistral"].items() if k != "num_key_value_heads"}
    assert shape_of(silent | {"num_attention_heads": 16}).kv_heads == 8  # unlike Llama's


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama", {"model_type": "qwen3_moe"}, ["model_type", "qwen3, gpt2, bert; others need a table"]),
        ("llama", {"model_type": ["llama"]}, ["model_type", "others need a table"]),
        ("llama", {"model_type": None}, ["model_type", "is missing"]),
        ("llama", {"auto_map": {"AutoModel": "x.Y"}}, ["auto_map"]),
        ("llama", {"quantization_config": {"bits": 4}}, ["quantization_config"]),
        ("llama", {"architectures": ["LlamaForTokenClassification"]}, ["architectures", "LlamaFor"]),
        ("llama", {"hidden_size": 0, "num_hidden_layers": "3"}, ["hidden_size", "num_hidden_layers"]),
        ("llama", {"intermediate_size": None}, ["intermediate_size", "is missing"]),
        ("llama", {"num_key_value_heads": 4}, ["num_attention_heads", "4 KV heads"]),
        ("llama", {"head_dim": None, "hidden_size": 67}, ["hidden_size", "6 heads"]),
        ("llama", {"head_dim": -4}, ["head_dim"]),
        ("gpt2", {"n_embd": 36}, ["n_embd", "5 heads"]),
        ("gpt2", {"add_cross_attention": True}, ["add_cross_attention"]),
        ("gpt2", {"n_positions": None}, ["positions", "positive whole number"]),
        ("bert", {"is_decoder": True}, ["is_decoder"]),
    ],
)
def test_what_the_tables_do_not_describe_is_refused(name, change, words):
    with pytest.raises(RefusedInput) as refused:
        shape_of(CONFIGS[name] | change)
    for word in words:
        assert word in str(refused.value)
    assert "Did you mean" not in str(refused.value), "another architecture is no misspelt one"
