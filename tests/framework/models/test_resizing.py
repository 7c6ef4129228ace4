"""A resized config makes a stock model of exactly the wanted shape."""

from __future__ import annotations

import json

import pytest
import transformers

from espalier.config.faults import RefusedInput
from espalier.models.families import layout, num_parameters, resized, shape_of
from support.architectures import CONFIGS, build

NARROWER = {
    "llama": {"layers": 2, "hidden": 44, "ffn": 23, "heads": 4},
    "llama_unshared": {"layers": 2, "ffn": 23, "heads": 3},
    "llama_one_kv": {"hidden": 35, "heads": 5},
    "mistral": {"layers": 1, "hidden": 23, "ffn": 17, "heads": 2},
    "qwen2": {"hidden": 43, "heads": 4},
    "qwen2_tied": {"layers": 2, "hidden": 59},
    "qwen3": {"layers": 2, "hidden": 29, "ffn": 19, "heads": 4},
    "gpt2": {"layers": 2, "hidden": 28, "ffn": 17, "heads": 4},
    "bert_masked_lm": {"layers": 2, "hidden": 26, "ffn": 17, "heads": 2},
}


@pytest.mark.parametrize("name", NARROWER)
def test_stock_code_builds_the_wanted_shape(name, tmp_path):
    config = CONFIGS[name]
    wanted = shape_of(config).cut(**NARROWER[name])
    child = resized(config, wanted)
    assert shape_of(child) == wanted
    (tmp_path / "config.json").write_text(json.dumps(child))
    stock = transformers.AutoConfig.from_pretrained(tmp_path)
    model = getattr(transformers, child["architectures"][0])(stock)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert shapes == {n: p.shape for n, p in layout(child).items()}
    assert num_parameters(child) == num_parameters(config, wanted)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_shape_is_the_same_model(name):
    config = CONFIGS[name]
    child = resized(config, shape_of(config))
    assert layout(child) == layout(config)
    assert {k: child[k] for k in config if config[k] is not None} == {k: v for k, v in config.items() if v is not None}


def test_lists_with_an_entry_per_layer_follow_the_kept_layers():
    types = ["full_attention", "sliding_attention", "full_attention"]
    config = CONFIGS["qwen3"] | {"layer_types": types, "use_sliding_window": True, "max_window_layers": 3}
    child = resized(config, shape_of(config).cut(layers=2), kept_layers=(1, 2))
    assert child["layer_types"] == types[1:]
    assert child["max_window_layers"] == 2
    build(child)


@pytest.mark.parametrize("window", [{"sliding_window": 8}, {}], ids=["8", "stock's own 4096"])
def test_a_window_rule_by_layer_number_survives_a_cut(window):
    config = CONFIGS["qwen2"] | {"use_sliding_window": True, "max_window_layers": 1} | window
    child = resized(config, shape_of(config).cut(layers=2), kept_layers=(1, 2))
    types = build(config).config.layer_types[1:]
    assert build(child).config.layer_types == types == ["sliding_attention"] * 2


@pytest.mark.parametrize(
    ("name", "cut", "word"),
    [
        ("llama", {"hidden": 65}, "multiple of the 6 heads"),
        ("gpt2", {"hidden": 28}, "heads x 7"),
        ("gpt2", {"heads": 4}, "heads x 7"),
        ("bert", {"hidden": 26}, "heads x 13"),
    ],
)
def test_a_shape_that_stock_code_cannot_have_is_refused(name, cut, word):
    with pytest.raises(RefusedInput, match=word):
        resized(CONFIGS[name], shape_of(CONFIGS[name]).cut(**cut))


def test_layers_scaled_by_their_number_stay_whole():
    config = CONFIGS["gpt2"] | {"scale_attn_by_inverse_layer_idx": True}
    with pytest.raises(RefusedInput, match="scale_attn_by_inverse_layer_idx"):
        resized(config, shape_of(config).cut(layers=2))
