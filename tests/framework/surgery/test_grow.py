"""Growth keeps what it promises: logits, the gradients that moments stand for, and the bits of what it copies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from espalier.config.faults import RefusedInput
from espalier.kinds.grow.kind import GrowStage, GrowTarget
from espalier.models.families import layout, shape_of
from espalier.models.shape import ModelShape
from espalier.models.virtual_depth import VirtualDepth
from espalier.surgery.grow import Grower
from espalier.surgery.growth import Growth, planned_growth
from espalier.surgery.keep import Keep
from espalier.surgery.prune import pruned_tensors
from support.architectures import CONFIGS, build, output, tokens

every_family = pytest.mark.parametrize("name", CONFIGS)


def wide(name: str) -> ModelShape:
    """Twice the hidden size and heads, half as many neurons again."""
    shape = shape_of(CONFIGS[name])
    return shape.cut(hidden=2 * shape.hidden, heads=2 * shape.heads, ffn=shape.ffn * 3 // 2)


def deep(name: str, layers: int = 7) -> ModelShape:
    return shape_of(CONFIGS[name]).cut(layers=layers)


def grown(growth: Growth, tensors: dict[str, Tensor], *, order: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    grower, fresh = Grower(growth), dict(build(growth.config, seed=5).named_parameters())
    return {
        name: grower.tensor(name, moment_order=order, read=tensors.__getitem__, fresh=fresh.__getitem__, draw=draw)
        for name in grower.names()
    }


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def model_of(growth: Growth, parent: nn.Module) -> nn.Module:
    child, state = build(growth.config, seed=9), grown(growth, values(parent))
    own = dict(child.named_parameters())
    assert list(own) == list(state)
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
    return child


def gradients(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    logits = model(input_ids=tokens())[0]
    logits.double().log_softmax(-1)[..., 3].sum().backward()
    named = model.named_parameters()
    return {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in named}


@every_family
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_splitting_width_keeps_the_logits(name: str, noise: float) -> None:
    parent, growth = build(CONFIGS[name]), Growth(CONFIGS[name], wide(name), noise=noise)
    child = model_of(growth, parent)
    before, after = output(parent, tokens()), output(child, tokens())
    if name == "bert":  # a bare body gives hidden states, each channel twice
        after, copy = after.chunk(2, dim=-1)
        torch.testing.assert_close(after, copy, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bert"])
def test_split_moments_are_those_of_the_split_gradients(name: str) -> None:
    parent, growth = build(CONFIGS[name]), Growth(CONFIGS[name], wide(name))
    small, large = gradients(parent), gradients(model_of(growth, parent))
    for order in (1, 2):
        moments = grown(growth, {key: value**order for key, value in small.items()}, order=order)
        most = max(float(gradient.abs().max()) for gradient in large.values())
        for key, moment in moments.items():
            scale = max(float(large[key].abs().max()), 1e-3 * most) ** order  # a key's bias: rounding only
            torch.testing.assert_close(moment, large[key] ** order, rtol=1e-3, atol=2e-4 * scale, msg=key)


@every_family
@pytest.mark.parametrize("operator", ["stack", "interpolate", "copy_last", "identity"])
def test_depth_and_width_at_once_equal_the_layers_run_in_their_order(name: str, operator: str) -> None:
    shape, config = wide(name).cut(layers=7), CONFIGS[name]
    parent, growth = build(config), Growth(config, shape, operator, noise=0.01)
    child = model_of(growth, parent)
    VirtualDepth(parent).run_layers(growth.equal_order)
    expected, found = (model(input_ids=tokens(), use_cache=False)[0] for model in (parent, child))
    if name == "bert":
        found = found.chunk(2, dim=-1)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_no_equal_order_with_freshly_initialised_layers() -> None:
    assert Growth(CONFIGS["llama"], deep("llama"), "random").equal_order is None


@every_family
def test_identity_insertion_keeps_the_logits(name: str) -> None:
    parent = build(CONFIGS[name])
    for layers in (4, 7):
        child = model_of(Growth(CONFIGS[name], deep(name, layers), "identity"), parent)
        torch.testing.assert_close(output(child, tokens()), output(parent, tokens()), rtol=1e-4, atol=2e-5)


@every_family
def test_stacking_then_pruning_the_copies_gives_the_same_bits(name: str) -> None:
    parent = values(build(CONFIGS[name]))
    growth = Growth(CONFIGS[name], deep(name), "stack")
    tall = grown(growth, parent)
    shape = shape_of(growth.config)
    whole = Keep.everything(shape)
    keep = Keep((0, 1, 2), whole.hidden, whole.ffn[:3], whole.heads[:3])
    back = {p.new_name: p.transform(tall[p.old_name]) for p in pruned_tensors(layout(growth.config), keep)}
    assert back.keys() == parent.keys()
    assert all(back[key].equal(value) for key, value in parent.items())


@pytest.mark.parametrize("new_moments", ["copied", "averaged", "zero"])
def test_new_layers_get_the_moments_asked_for_and_old_ones_keep_theirs(new_moments: str) -> None:
    parent = values(build(CONFIGS["llama"]))
    growth = Growth(CONFIGS["llama"], deep("llama", 4), "stack", new_moments=new_moments)
    for order in (1, 2):
        moments = grown(growth, parent, order=order)
        assert all(moments[key].equal(value) for key, value in parent.items())
        name = "model.layers.{}.mlp.up_proj.weight"
        old = [parent[name.format(layer)] for layer in range(3)]
        expected = {"copied": old[0], "averaged": sum(old) / 3, "zero": torch.zeros_like(old[0])}[new_moments]
        assert moments[name.format(3)].equal(expected)


def test_fresh_layers_come_from_a_fresh_model() -> None:
    parent = values(build(CONFIGS["gpt2"]))
    growth = Growth(CONFIGS["gpt2"], deep("gpt2", 5), "random")
    tall, fresh = grown(growth, parent), values(build(growth.config, seed=5))
    name = "transformer.h.{}.mlp.c_fc.weight"
    assert tall[name.format(2)].equal(parent[name.format(2)])
    assert tall[name.format(4)].equal(fresh[name.format(4)])
    assert not grown(growth, parent, order=1)[name.format(4)].any()
    assert grown(growth, parent, order=2)[name.format(4)].all()


def test_noise_makes_copies_differ_and_keeps_the_function() -> None:
    parent = build(CONFIGS["llama"])
    down = "model.layers.0.mlp.down_proj.weight"
    growth = Growth(CONFIGS["llama"], wide("llama").cut(hidden=60, heads=6), noise=0.1)
    split = values(model_of(growth, parent))[down]
    old = values(parent)[down]
    assert not split[:, 37:].equal(split[:, :18])
    torch.testing.assert_close(split[:, 37:] + split[:, :18], old[:, :18])
    assert split[:, 18:37].equal(old[:, 18:]), "what has no copy has no noise"


@pytest.mark.parametrize(
    ("target", "given", "noise"),
    [({"ffn": 74}, None, 0.01), ({"ffn": 74, "layers": 7}, None, 0.01), ({"layers": 7}, None, 0.0),
     ({"ffn": 74}, 0.0, 0.0), ({"hidden": 120}, 0.5, 0.5)],
)  # fmt: skip
def test_copies_differ_unless_noise_is_zero(target: dict[str, int], given: float | None, noise: float) -> None:
    stage = GrowStage(name="g", kind="grow", student="s", target=GrowTarget(**target), noise=given)
    assert planned_growth(stage, CONFIGS["llama"]).noise == noise


def test_the_copies_of_a_unit_learn_differently() -> None:
    stage = GrowStage(name="g", kind="grow", student="s", target=GrowTarget(ffn=74))
    model = model_of(planned_growth(stage, CONFIGS["llama"]), build(CONFIGS["llama"]))
    up = gradients(model)["model.layers.1.mlp.up_proj.weight"]
    assert not torch.allclose(up[:37], up[37:], rtol=1e-4, atol=0)


def test_new_units_can_begin_without_moments() -> None:
    parent = values(build(CONFIGS["llama"]))
    growth = Growth(CONFIGS["llama"], wide("llama").cut(hidden=60, heads=6), new_moments="zero")
    up = grown(growth, parent, order=1)["model.layers.0.mlp.up_proj.weight"]
    assert up[:37].any(dim=1).all() and not up[37:].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 90}, "a multiple of 60: norms keep"),
        ({"heads": 9}, "a multiple of the 2 KV heads"),
        ({"ffn": 36}, "at least the 37"),
        ({"layers": 2}, "more than the 3 layers"),
    ],
)
def test_what_cannot_be_grown_is_refused(changes: dict[str, int], message: str) -> None:
    growth = Growth(CONFIGS["llama"], shape_of(CONFIGS["llama"]).cut(**changes))
    with pytest.raises(RefusedInput, match=message):
        growth.split  # noqa: B018
        growth.config  # noqa: B018
