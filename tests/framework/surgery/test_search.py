"""A target becomes a shape: under it, near it, with the smallest cut penalty, and stock code can have it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.config.faults import RefusedInput
from espalier.kinds.prune.kind import SearchConfig, TargetConfig
from espalier.models.families import misfit, num_parameters, shape_of
from espalier.surgery.search import cut_penalty, find_shape
from support.architectures import CONFIGS

SMOLLM2_135M = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
PARENT = shape_of(SMOLLM2_135M)
DEFAULT = SearchConfig()


def find(parameters: int, search: SearchConfig = DEFAULT):
    return find_shape(SMOLLM2_135M, TargetConfig(parameters=parameters), search)


@pytest.mark.parametrize("millions", [90, 95, 106, 115, 121, 125, 130])
def test_a_searched_shape_is_just_under_the_target(millions):
    count = num_parameters(SMOLLM2_135M, find(millions * 10**6))
    assert 0.98 * millions * 10**6 <= count <= millions * 10**6


@pytest.mark.parametrize("axes", [("layers", "ffn"), ("ffn", "layers"), ("heads", "ffn"), ("layers", "heads")])
def test_no_shape_near_the_target_has_a_smaller_penalty(axes):
    search, target = SearchConfig(axes=axes), 124_000_000
    found = find(target, search)
    sizes = {"layers": range(24, 31), "ffn": range(960, 1537, 64), "heads": (6, 9)}
    for sizes_of_one in itertools.product(*(sizes[axis] for axis in axes)):
        shape = PARENT.cut(**dict(zip(axes, sizes_of_one, strict=True)))
        if 0.98 * target <= num_parameters(SMOLLM2_135M, shape) <= target:
            assert cut_penalty(found, PARENT, search) <= cut_penalty(shape, PARENT, search)


def test_the_nearest_is_taken_where_the_grain_is_coarser():
    assert find(134_000_000) == PARENT.cut(ffn=1472)


def test_width_is_cut_before_depth():
    found = find(106_000_000)
    assert found.layers / PARENT.layers > found.ffn / PARENT.ffn


@given(
    axes=st.sets(st.sampled_from(["layers", "hidden", "ffn", "heads"]), min_size=1),
    share=st.floats(0.7, 1.0),
    name=st.sampled_from(["llama", "llama_unshared", "mistral", "qwen3", "gpt2", "bert_masked_lm"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_found_keeps_grain_limits_and_stock_rules(axes, share, name):
    config, parent = CONFIGS[name], shape_of(CONFIGS[name])
    grains = {"hidden_multiple_of": 2, "ffn_multiple_of": 5}
    search = SearchConfig(axes=tuple(sorted(axes)), max_depth_cut=0.4, **grains)
    target = TargetConfig(parameters=int(share * num_parameters(config)))
    try:
        found = find_shape(config, target, search)
    except RefusedInput as refused:
        assert "at least" in str(refused)
        return
    assert num_parameters(config, found) <= target.parameters and not misfit(config, found)
    for axis in ("layers", "hidden", "ffn", "heads"):
        size, whole = getattr(found, axis), getattr(parent, axis)
        grain = {"layers": 1, "hidden": 2, "ffn": 5, "heads": parent.head_groups}[axis]
        assert size == whole or (axis in axes and 0.6 * whole - 1e-6 <= size < whole and size % grain == 0)


def test_the_penalty_grows_more_than_linearly():
    shallow, deep = (cut_penalty(PARENT.cut(ffn=ffn), PARENT, DEFAULT) for ffn in (1344, 1152))
    assert deep > 2 * shallow


def test_the_parent_s_size_keeps_the_parent():
    assert find(num_parameters(SMOLLM2_135M)) == PARENT
    assert cut_penalty(PARENT, PARENT, DEFAULT) == 0


def test_given_axes_are_taken_as_they_are():
    found = find_shape(SMOLLM2_135M, TargetConfig(layers=7, ffn=101, heads=6), DEFAULT)
    assert found == PARENT.cut(layers=7, ffn=101, heads=6)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"parameters": 135_000_000}, ["target.parameters", "134,515,008", "prune makes models smaller"]),
        ({"parameters": 60_000_000}, ["target.parameters", "at least 89,386,560", "max_width_cut"]),
        ({"layers": 31, "ffn": 1537}, ["target.layers", "target.ffn", "at most the parent's 30"]),
        ({"heads": 7}, ["target.heads", "multiple of the 3 KV heads"]),
        ({"hidden": 512}, ["target.hidden", "multiple of the 9 heads"]),
    ],
)
def test_an_unreachable_target_is_refused(target, words):
    with pytest.raises(RefusedInput) as refused:
        find_shape(SMOLLM2_135M, TargetConfig(**target), DEFAULT)
    for word in words:
        assert word in str(refused.value)


def test_the_smallest_that_is_named_can_be_reached():
    assert num_parameters(SMOLLM2_135M, find(89_386_560)) == 89_386_560


def test_the_message_names_the_setting_it_was_given():
    with pytest.raises(RefusedInput, match=r"stages\.slim\.target\.heads"):
        find_shape(SMOLLM2_135M, TargetConfig(heads=7), DEFAULT, path="stages.slim.target")
