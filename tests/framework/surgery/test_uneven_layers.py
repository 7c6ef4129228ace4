"""A family whose layers have different widths: the table describes it, depth and width can be cut, depth can grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from espalier.config.faults import RefusedInput
from espalier.kinds.grow.kind import GrowStage, GrowTarget
from espalier.models.families import layout, num_parameters, probes, resized, shape_of
from espalier.models.families.llama import LLAMA
from espalier.models.families.registry import FAMILIES
from espalier.models.flops import body_flops
from espalier.models.shape import ConfigDict, ModelShape
from espalier.surgery.choose_units import choose
from espalier.surgery.grow import Grower
from espalier.surgery.growth import Growth, planned_growth
from espalier.surgery.importance import measuring
from espalier.surgery.keep import Keep, select
from espalier.surgery.prune import pruned_tensors
from support.architectures import output, tokens
from support.installed import install, site_packages

CONFIG: dict[str, Any] = {
    "model_type": "uneven",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 53,
    "hidden_size": 20,
    "intermediate_size": 37,
    "ffn_per_layer": [37, 11, 23],
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def _layer(config: ConfigDict, shape: ModelShape, index: int) -> Any:
    return LLAMA.table.layer(config, replace(shape, ffn=min(shape.ffn, config["ffn_per_layer"][index])), index)


def _resize(config: ConfigDict, shape: ModelShape, kept_layers: Sequence[int]) -> ConfigDict:
    return {"ffn_per_layer": [min(config["ffn_per_layer"][layer], shape.ffn) for layer in kept_layers]}


UNEVEN = replace(LLAMA, table=replace(LLAMA.table, layer=_layer, layers_differ=True), resize=_resize)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path) -> Iterator[None]:
    with site_packages(tmp_path / "site", FAMILIES) as site:
        install(site, "uneven_layers", {"uneven": f"{__name__}:UNEVEN"}, group="espalier.families")
        yield


def uneven(config: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None) -> nn.Module:
    """A stock Llama whose layers have MLPs of other widths."""
    torch.manual_seed(3)
    settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    stock = LlamaConfig(**settings)
    model = LlamaForCausalLM(stock).eval()
    for layer, width in zip(model.model.layers, config["ffn_per_layer"], strict=True):
        layer.mlp = LlamaMLP(LlamaConfig(**settings | {"intermediate_size": width}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn_like(parameter) / parameter.shape[-1] ** 0.5
            parameter.copy_(drawn if tensors is None else tensors[name])
    return model


def cut(model: nn.Module, keep: Keep) -> nn.Module:
    values = dict(model.named_parameters())
    pruned = {p.new_name: p.transform(values[p.old_name].detach()) for p in pruned_tensors(layout(CONFIG), keep)}
    return uneven(resized(CONFIG, keep.shape(shape_of(CONFIG)), kept_layers=keep.layers), pruned)


def test_the_table_gives_each_layer_its_own_shapes() -> None:
    stock = {name: tuple(value.shape) for name, value in uneven(CONFIG).named_parameters()}
    assert {name: one.shape for name, one in layout(CONFIG).items()} == stock
    assert num_parameters(CONFIG) == sum(value.numel() for value in uneven(CONFIG).parameters())
    narrow = shape_of(CONFIG).cut(ffn=19)
    assert num_parameters(CONFIG, narrow) == num_parameters(resized(CONFIG, narrow)) < num_parameters(CONFIG)
    matrices = sum(one.num_elements for one in layout(CONFIG).values() if one.layer is not None and len(one.shape) > 1)
    attention = 3 * 2 * 2 * 20 * 7
    assert body_flops(CONFIG, tokens=10, sequence_tokens=7) == pytest.approx(10 * (2 * matrices + attention))


def test_each_layer_keeps_its_most_important_units_up_to_the_width_asked_for() -> None:
    model, shape = uneven(CONFIG), shape_of(CONFIG)
    silent = [[0, 5, *range(18, 37)], [], [2, 7, 9, 10]]
    with torch.no_grad():
        for probe, units in zip(probes(CONFIG), silent, strict=True):
            path = probe.down.replace("down_proj", "up_proj")
            model.get_submodule(path).weight[units] = 0  # neither measured nor heard
    with measuring(model, probes(CONFIG), shape) as meter, meter.microbatch(None):
        output(model, tokens())
    scores = meter.sums.finish(shape)
    assert not scores.ffn[1, 11:].any() and scores.ffn[1, :11].all()
    keep = choose(scores, parent=shape, child=shape.cut(ffn=19))
    child = cut(model, keep)
    assert [layer.mlp.gate_proj.out_features for layer in child.model.layers] == [19, 11, 19]
    torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-4, atol=1e-5)
    keep = replace(keep, ffn=((0, 3, 30),) * 3)
    up = layout(CONFIG)["model.layers.1.mlp.up_proj.weight"]
    assert select(torch.arange(220.0).view(11, 20), up, keep).equal(torch.arange(220.0).view(11, 20)[[0, 3]])
    whole = cut(model, Keep.everything(shape))
    assert output(whole, tokens()).equal(output(model, tokens()))


def test_layers_are_dropped_and_copied_with_their_widths() -> None:
    model, whole = uneven(CONFIG), Keep.everything(shape_of(CONFIG))
    child = cut(model, replace(whole, layers=(0, 2), ffn=whole.ffn[:2], heads=whole.heads[:2]))
    assert [layer.mlp.gate_proj.out_features for layer in child.model.layers] == [37, 23]
    growth = Growth(CONFIG, shape_of(CONFIG).cut(layers=5), "stack")
    values = {name: value.detach() for name, value in model.named_parameters()}
    grower, draw, read = Grower(growth), torch.Generator(), values.__getitem__
    tall = {name: grower.tensor(name, moment_order=0, read=read, fresh=read, draw=draw) for name in grower.names()}
    grown = uneven(growth.config, tall)
    assert [layer.mlp.gate_proj.out_features for layer in grown.model.layers] == [37, 11, 23, 37, 11]
    assert output(grown, tokens()).isfinite().all()


def test_width_cannot_grow() -> None:
    stage = GrowStage(name="g", kind="grow", student="s", target=GrowTarget(ffn=74))
    with pytest.raises(RefusedInput, match=r"stages\.g\.target\.ffn` is 74; allowed: .*layers differ in width"):
        planned_growth(stage, CONFIG)
