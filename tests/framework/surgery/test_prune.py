"""Pruning is a selection: nothing cut is nothing changed, and cutting what does nothing changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from espalier.models.families import layout, probes, resized, shape_of
from espalier.models.shape import Axis, Parameter
from espalier.surgery.keep import Keep, select
from espalier.surgery.prune import pruned_tensors
from support.architectures import CONFIGS, build, output, tokens

every_family = pytest.mark.parametrize("name", CONFIGS)


def cut(name: str, model: nn.Module, keep: Keep) -> nn.Module:
    """The child as a stock model with the parent's kept tensors."""
    config = CONFIGS[name]
    child = build(resized(config, keep.shape(shape_of(config)), kept_layers=keep.layers), seed=1)
    parameters = dict(model.named_parameters())
    pruned = pruned_tensors(layout(config), keep)
    state = {p.new_name: p.transform(parameters[p.old_name].detach()) for p in pruned}
    own = dict(child.named_parameters())
    assert list(state) == list(own)
    with torch.no_grad():
        for key, value in state.items():
            assert value.shape == own[key].shape, key
            own[key].copy_(value)
    return child


def keep_of(name: str, **kept: object) -> Keep:
    whole = Keep.everything(shape_of(CONFIGS[name]))
    layers = kept.get("layers", whole.layers)
    ffn, heads = kept.get("ffn", whole.ffn[0]), kept.get("heads", whole.heads[0])
    hidden = kept.get("hidden", whole.hidden)
    return Keep(layers=layers, hidden=hidden, ffn=(ffn,) * len(layers), heads=(heads,) * len(layers))


def some_heads(name: str) -> tuple[int, ...]:
    """All but the first head of each group."""
    shape = shape_of(CONFIGS[name])
    size = shape.heads // shape.head_groups
    return tuple(head for head in range(shape.heads) if head % size)


def silence(model: nn.Module, path: str, inputs: list[int]) -> None:
    """Make a projection deaf to some of its inputs."""
    module = model.get_submodule(path)
    weight = module.weight if isinstance(module, nn.Linear) else module.weight.T  # Conv1D lies transposed
    with torch.no_grad():
        weight[:, inputs] = 0


@every_family
def test_keeping_everything_is_the_identity_bit_for_bit(name):
    config = CONFIGS[name]
    parameters = dict(build(config).named_parameters())
    pruned = list(pruned_tensors(layout(config), Keep.everything(shape_of(config))))
    assert [(p.new_name, p.old_name) for p in pruned] == [(n, n) for n in parameters]
    for p in pruned:
        for dtype in (torch.float32, torch.bfloat16):
            value = parameters[p.old_name].detach().to(dtype)
            assert p.transform(value).view(torch.uint8).equal(value.view(torch.uint8))


@every_family
def test_neurons_without_readers_are_pruned_layer_by_layer_without_change(name):
    shape, model = shape_of(CONFIGS[name]), build(CONFIGS[name])
    dropped = [[1, 4, 5, 18], [0, 4, 6, 36], [7, 8, 9, 10]]
    for probe, neurons in zip(probes(CONFIGS[name]), dropped, strict=True):
        silence(model, probe.down, neurons)
    whole = Keep.everything(shape)
    ffn = tuple(tuple(n for n in range(shape.ffn) if n not in neurons) for neurons in dropped)
    child = cut(name, model, replace(whole, ffn=ffn))
    torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in CONFIGS if not n.startswith(("gpt2", "bert"))])
def test_heads_without_readers_are_pruned_without_change(name):
    shape, model = shape_of(CONFIGS[name]), build(CONFIGS[name])
    kept = some_heads(name)
    width = shape.head_dim
    dropped = [h * width + e for h in range(shape.heads) if h not in kept for e in range(width)]
    for probe in probes(CONFIGS[name]):
        silence(model, probe.output, dropped)
    child = cut(name, model, keep_of(name, heads=kept))
    torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-4, atol=1e-4)


@every_family
def test_an_identity_layer_is_pruned_without_change(name):
    model = build(CONFIGS[name])
    with torch.no_grad():
        for path in (probes(CONFIGS[name])[1].down, probes(CONFIGS[name])[1].output):
            for parameter in model.get_submodule(path).parameters():
                parameter.zero_()
        if name.startswith("bert"):  # norms come after: twice is once where they neither scale nor shift
            for index in (0, 1):
                for path in probes(CONFIGS[name])[index].norms:
                    model.get_submodule(path).weight.fill_(1)
                    model.get_submodule(path).bias.zero_()
    child = cut(name, model, keep_of(name, layers=(0, 2)))
    torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mistral", "qwen2_tied", "qwen3", "qwen3_tied_biased"])
def test_channels_that_are_never_written_are_pruned_without_change(name):
    """RMSNorm divides by the width: the child's norms are scaled by its square root to make up for that."""
    shape, model = shape_of(CONFIGS[name]), build(CONFIGS[name])
    kept = tuple(n for n in range(shape.hidden) if n not in (0, 3, 13))
    dropped = [n for n in range(shape.hidden) if n not in kept]
    with torch.no_grad():
        model.get_input_embeddings().weight[:, dropped] = 0
        for probe in probes(CONFIGS[name]):
            for path in (probe.down, probe.output):
                for parameter in model.get_submodule(path).parameters():
                    parameter[dropped] = 0
    child = cut(name, model, keep_of(name, hidden=kept))
    with torch.no_grad():
        for parameter_name, parameter in child.named_parameters():
            if parameter_name.endswith(("layernorm.weight", "model.norm.weight")):
                parameter.mul_((shape.hidden / len(kept)) ** 0.5)
    torch.testing.assert_close(output(child, tokens()), output(model, tokens()), rtol=1e-3, atol=1e-3)


def test_gpt2_matches_a_cut_by_hand():
    model = build(CONFIGS["gpt2"])
    hidden = tuple(n for n in range(35) if n not in (0, 5, 6, 11, 20, 30, 34))
    heads, ffn, layers = (0, 1, 3, 4), tuple(range(2, 140, 3)), (0, 2)
    child = cut("gpt2", model, keep_of("gpt2", hidden=hidden, heads=heads, ffn=ffn, layers=layers))
    h, f = list(hidden), list(ffn)
    a = [n for n in range(35) if n // 7 != 2]
    parent, block = model.transformer.h[2], child.transformer.h[1]
    query, key, value = parent.attn.c_attn.weight.split(35, dim=1)
    assert block.attn.c_attn.weight.equal(torch.cat([query[h][:, a], key[h][:, a], value[h][:, a]], dim=1))
    assert block.attn.c_attn.bias.equal(torch.cat([part[a] for part in parent.attn.c_attn.bias.split(35)]))
    assert block.attn.c_proj.weight.equal(parent.attn.c_proj.weight[a][:, h])
    assert block.mlp.c_fc.weight.equal(parent.mlp.c_fc.weight[h][:, f])
    assert block.mlp.c_proj.weight.equal(parent.mlp.c_proj.weight[f][:, h])
    assert block.ln_2.bias.equal(parent.ln_2.bias[h])
    assert child.transformer.wpe.weight.equal(model.transformer.wpe.weight[:, h])
    assert child.lm_head.weight is child.transformer.wte.weight


def test_bert_matches_a_cut_by_hand():
    model = build(CONFIGS["bert_masked_lm_untied"])
    hidden, heads, ffn = tuple(range(5, 31)), (0, 2), (1, 2, 36)
    keep = keep_of("bert_masked_lm_untied", hidden=hidden, heads=heads, ffn=ffn, layers=(1,))
    child = cut("bert_masked_lm_untied", model, keep)
    h, a = list(hidden), [n for n in range(39) if n // 13 != 1]
    parent, layer = model.bert.encoder.layer[1], child.bert.encoder.layer[0]
    assert layer.attention.self.value.weight.equal(parent.attention.self.value.weight[a][:, h])
    assert layer.attention.output.dense.weight.equal(parent.attention.output.dense.weight[h][:, a])
    assert layer.output.dense.weight.equal(parent.output.dense.weight[h][:, list(ffn)])
    old, new = model.cls.predictions, child.cls.predictions
    assert new.transform.dense.weight.equal(old.transform.dense.weight[h][:, h])
    assert new.decoder.weight.equal(old.decoder.weight[:, h]) and new.decoder.bias.equal(old.decoder.bias)


def test_a_pruned_folder_loads_in_stock_code(tmp_path):
    name = "qwen3"
    hidden, heads = tuple(range(1, 30)), some_heads(name)
    keep = keep_of(name, layers=(0, 2), hidden=hidden, ffn=(2, 3, 5, 7, 11), heads=heads)
    child = cut(name, build(CONFIGS[name]), keep)
    child.config.to_json_file(tmp_path / "config.json")
    save_file(dict(child.named_parameters()), tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, report = type(child).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert output(loaded.eval(), tokens()).equal(output(child, tokens()))


def test_the_parts_of_a_fused_dimension_are_cut_alike():
    parameter = Parameter((((Axis("hidden", 5)),), (Axis("heads", 3, 2), Axis("kv_heads", 1, 2))), layer=7)
    keep = Keep(layers=(4, 7), hidden=(0, 4), ffn=((0,), (0,)), heads=((0, 1), (1, 2)))
    tensor = torch.arange(5 * 8).view(5, 8)
    assert select(tensor, parameter, keep).equal(tensor[[0, 4]][:, [2, 3, 4, 5, 6, 7]])


@pytest.mark.parametrize(
    "change",
    [{"hidden": (1, 0)}, {"hidden": (1, 1)}, {"hidden": ()}, {"ffn": ((0,), (0, 1))}, {"layers": (0,)}],
)
def test_a_keep_that_is_no_cut_is_a_bug(change):
    right = {"layers": (0, 1), "hidden": (0, 1), "ffn": ((0,), (1,)), "heads": ((0,), (1,))}
    Keep(**right)
    with pytest.raises(AssertionError):
        Keep(**right | change)


def test_a_tensor_of_another_shape_is_a_bug():
    keep = Keep(layers=(0,), hidden=(0,), ffn=((0,),), heads=((0,),))
    with pytest.raises(AssertionError):
        select(torch.zeros(3), Parameter(((Axis("hidden", 5),),)), keep)
