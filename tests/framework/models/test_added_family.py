"""A family that another package installs goes through all that ours do; no file of this package knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from espalier.config.faults import RefusedInput
from espalier.data.batch import Batch
from espalier.engine.objective import TokenObjective
from espalier.models.build import build_network
from espalier.models.families import family_of, layout, num_parameters, probes, resized, shape_of
from espalier.models.families.config_checks import require_loadable
from espalier.models.families.registry import FAMILIES
from espalier.models.flops import trained_flops
from espalier.models.network import Network
from espalier.models.published import check_published
from espalier.models.shape import ModelShape
from espalier.objectives.terms import Term
from espalier.surgery.grow import Grower
from espalier.surgery.growth import Growth
from espalier.surgery.importance import measuring
from espalier.surgery.keep import Keep
from espalier.surgery.prune import pruned_tensors
from support.architectures import build, output, tokens
from support.installed import install, site_packages

_OLMO2: dict[str, Any] = {
    "model_type": "olmo2",
    "architectures": ["Olmo2ForCausalLM"],
    "vocab_size": 53,
    "hidden_size": 60,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "eos_token_id": 2,
}
_CLASSIFIER = {"architectures": ["Olmo2ForSequenceClassification"], "num_labels": 7, "pad_token_id": 0}
CONFIGS = {
    "shared": _OLMO2 | {"head_dim": 4},
    "unshared": _OLMO2 | {"num_key_value_heads": None, "attention_bias": True},
    "tied": _OLMO2 | {"tie_word_embeddings": True},
    "classifier": _OLMO2 | _CLASSIFIER,
}
every_config = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path) -> Iterator[None]:
    with site_packages(tmp_path / "site", FAMILIES) as site:
        install(site, "olmo_for_espalier", {"olmo2": "support.olmo2:OLMO2"}, group="espalier.families")
        yield


def filled(config: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    model = build(config, seed=9)
    own = dict(model.named_parameters())
    assert list(own) == list(tensors)
    with torch.no_grad():
        for name, value in tensors.items():
            assert own[name].shape == value.shape, name
            own[name].copy_(value)
    return model


def pruned(config: dict[str, Any], model: nn.Module, keep: Keep) -> nn.Module:
    values = dict(model.named_parameters())
    child = resized(config, keep.shape(shape_of(config)), kept_layers=keep.layers)
    tensors = {p.new_name: p.transform(values[p.old_name].detach()) for p in pruned_tensors(layout(config), keep)}
    return filled(child, tensors)


def grown(growth: Growth, model: nn.Module) -> nn.Module:
    grower, draw = Grower(growth), torch.Generator().manual_seed(1)
    values = {name: value.detach() for name, value in model.named_parameters()}
    read = values.__getitem__
    return filled(
        growth.config,
        {name: grower.tensor(name, moment_order=0, read=read, fresh=read, draw=draw) for name in grower.names()},
    )


def wider(config: dict[str, Any]) -> ModelShape:
    shape = shape_of(config)
    return shape.cut(hidden=2 * shape.hidden, heads=2 * shape.heads, ffn=shape.ffn * 3 // 2)


@every_config
def test_the_table_is_that_of_the_stock_model(name: str, tmp_path: Path) -> None:
    config, model = CONFIGS[name], build(CONFIGS[name])
    stock = [(key, tuple(value.shape)) for key, value in model.named_parameters()]
    assert [(key, one.shape) for key, one in layout(config).items()] == stock
    assert num_parameters(config) == sum(value.numel() for value in model.parameters())
    for probe in probes(config):
        assert model.get_submodule(probe.down).in_features == 37
        assert model.get_submodule(probe.output).in_features == shape_of(config).heads * shape_of(config).head_dim
    model.save_pretrained(tmp_path / "model")
    outputs = tuple(map(str, range(7))) if name == "classifier" else None
    assert not check_published(tmp_path / "model", outputs=outputs, head="auto", setting="model").fresh


@every_config
@torch.no_grad()
def test_logits_are_those_of_the_stock_model(name: str) -> None:
    ids = tokens(rows=1)
    batch = Batch(ids, ids, torch.arange(11)[None], None, torch.arange(1), torch.ones(1))
    network = Network(build(CONFIGS[name]), causal=family_of(CONFIGS[name]).causal).eval()
    found = network(batch, lambda hidden, weight, bias: nn.functional.linear(hidden, weight, bias))
    expected = build(CONFIGS[name])(input_ids=ids).logits
    torch.testing.assert_close(found if expected.dim() == 3 else found[:, -1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"architectures": ["Olmo2ForTokenClassification"]}, "architectures"),
        ({"hidden_size": 0, "num_hidden_layers": "3"}, "num_hidden_layers` is '3'.*\n.*hidden_size` is 0"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
    ],
)
def test_its_config_is_refused_for_what_the_table_does_not_have(change: dict[str, Any], path: str) -> None:
    with pytest.raises(RefusedInput, match=f"config.json: {path}"):
        shape_of(CONFIGS["shared"] | change)


@pytest.mark.parametrize("change", [{"head_dim": 5}, {"rope_parameters": {"rope_type": "magic"}}, {"rms_norm_eps": 2}])
def test_its_config_is_refused_for_what_stock_code_stumbles_over(change: dict[str, Any]) -> None:
    require_loadable(CONFIGS["shared"])
    with pytest.raises(RefusedInput, match=next(iter(change))):
        require_loadable(CONFIGS["shared"] | change)


@every_config
def test_what_does_nothing_can_be_pruned(name: str) -> None:
    config, model = CONFIGS[name], build(CONFIGS[name])
    whole = Keep.everything(shape_of(config))
    with torch.no_grad():
        for probe in probes(config):
            model.get_submodule(probe.down).weight[:, [1, 4, 36]] = 0
        for path in (probes(config)[1].down, probes(config)[1].output):
            for parameter in model.get_submodule(path).parameters():
                parameter.zero_()
    ffn = (tuple(n for n in range(37) if n not in (1, 4, 36)),) * 2
    child = pruned(config, model, replace(whole, layers=(0, 2), ffn=ffn, heads=whole.heads[:2]))
    torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-4, atol=1e-4)
    child = pruned(config, model, replace(whole, hidden=tuple(range(0, 60, 2)), heads=((0, 1, 3, 4),) * 3))
    assert output(child, tokens()).isfinite().all(), "a stock model of the smaller shape"


@every_config
@pytest.mark.parametrize("operator", ["identity", "stack"])
def test_growing_keeps_what_it_promises(name: str, operator: Any) -> None:
    config, model = CONFIGS[name], build(CONFIGS[name])
    for noise in (0.0, 0.3):
        child = grown(Growth(config, wider(config), noise=noise), model)
        torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-4, atol=2e-5)
    growth = Growth(config, wider(config).cut(layers=5), operator, noise=0.01)
    network = Network(model, causal=True)
    network.run_layers(growth.equal_order)
    expected = network.model(input_ids=tokens(), use_cache=False)[0]
    torch.testing.assert_close(output(grown(growth, build(config)), tokens()), expected, rtol=1e-4, atol=2e-5)


def test_heads_under_a_norm_grow_in_multiples_only() -> None:
    growth = Growth(CONFIGS["shared"], shape_of(CONFIGS["shared"]).cut(heads=8))
    with pytest.raises(RefusedInput, match=r"`heads` is 8; allowed: a multiple of 6: norms keep .* every head"):
        _ = growth.split


def test_importance_is_measured_where_the_table_says() -> None:
    config, model, seen = CONFIGS["shared"], build(CONFIGS["shared"]), []
    down = model.get_submodule("model.layers.1.mlp.down_proj")
    down.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with measuring(model, probes(config), shape_of(config)) as meter, meter.microbatch(None):
        output(model, tokens())
    expected = seen[0].abs().mean(dim=1).square().sum(dim=0)
    torch.testing.assert_close(meter.sums.ffn[1].float(), expected)
    assert meter.sums.hidden.all() and meter.sums.heads.all() and meter.sums.layers.all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_flops_are_those_that_torch_counts(checkpointing: bool) -> None:
    config = CONFIGS["shared"] | {"hidden_size": 96, "intermediate_size": 160, "head_dim": 16, "vocab_size": 211}
    network = build_network(config, dtype=torch.float32, device=torch.device("cpu")).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.02)
    if checkpointing:
        network.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.zeros(2, 48, dtype=torch.long)
    batch = Batch(ids, ids, torch.arange(48).expand(2, -1), None, torch.arange(2), torch.ones(2))
    use = TokenObjective((Term.of("cross_entropy"),)).use(batch, None, [1.0])
    unseen: dict[Any, Callable[..., int]] = {
        torch.ops.aten.addmm_: lambda _, left, right, **more: 2 * left[0] * left[1] * right[1]
    }
    with FlopCounterMode(display=False, custom_mapping=unseen) as counter, sdpa_kernel(SDPBackend.MATH):
        network(batch, use)[0].backward()
    counted = trained_flops(config, tokens=96, sequence_tokens=48, activation_checkpointing=checkpointing)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
