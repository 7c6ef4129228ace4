"""What the meter measures is what the definition says, however the data is cut into microbatches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from espalier.models.families import probes, shape_of
from espalier.surgery.importance import measuring
from espalier.surgery.scores import Scores, Sums
from support.architectures import CONFIGS, build, output, tokens

FAMILIES = ("llama", "qwen3", "gpt2", "bert_masked_lm")
MASK = torch.ones(4, 11, dtype=torch.bool)
MASK[1, 7:] = False
MASK[3, :] = False  # a row of padding only


def measure(name: str, model: nn.Module, microbatches: list[tuple[Tensor, Tensor | None]]) -> Sums:
    shape = shape_of(CONFIGS[name])
    with measuring(model, probes(CONFIGS[name]), shape) as meter:
        for rows, mask in microbatches:
            with meter.microbatch(mask):
                output(model, rows)
    return meter.sums


def by_definition(name: str, model: nn.Module, rows: Tensor, mask: Tensor) -> Scores:
    """The same in float64, sample by sample, from recorded activations."""
    shape, seen = shape_of(CONFIGS[name]), {}
    model = model.double()

    def record(path: str, kind: str) -> None:
        def hook(module, inputs, out):
            value = inputs[0] if kind == "in" else out[0] if isinstance(out, tuple) else out
            seen[path, kind] = value.detach()

        model.get_submodule(path).register_forward_hook(hook)

    for probe in probes(CONFIGS[name]):
        for path in (probe.down, probe.output, probe.layer):
            record(path, "in")
        for path in (*probe.norms, probe.layer):
            record(path, "out")
    output(model, rows)
    counted = [b for b in range(len(rows)) if mask[b].any()]

    def score(path: str, kind: str) -> Tensor:
        return sum(seen[path, kind][b][mask[b]].abs().mean(0) ** 2 for b in counted).sqrt()

    places = probes(CONFIGS[name])
    heads = torch.stack([score(p.output, "in") for p in places]).unflatten(1, (shape.heads, shape.head_dim))
    ends = [(seen[p.layer, "in"], seen[p.layer, "out"]) for p in places]
    cosines = [nn.functional.cosine_similarity(*pair, dim=-1) for pair in ends]
    return Scores(
        ffn=torch.stack([score(p.down, "in") for p in places]),
        heads=heads.norm(dim=2),
        hidden=sum(score(path, "out") for p in places for path in p.norms),
        layers=torch.stack([1 - cosine[mask].mean() for cosine in cosines]),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_equal_their_definition(name):
    rows = tokens(4)
    measured = measure(name, build(CONFIGS[name]), [(rows, MASK)]).finish(shape_of(CONFIGS[name]))
    wanted = by_definition(name, build(CONFIGS[name]), rows, MASK)
    for key, value in measured.tensors().items():
        torch.testing.assert_close(value.double(), wanted.tensors()[key], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_two_halves_add_up_to_the_whole(name):
    rows, model = tokens(4), build(CONFIGS[name])
    whole = measure(name, model, [(rows, MASK)])
    halves = [measure(name, model, [(rows[i : i + 2], MASK[i : i + 2])]) for i in (0, 2)]
    in_turn = measure(name, model, [(rows[i : i + 1], MASK[i : i + 1]) for i in range(4)])
    for key, value in whole.tensors().items():
        added = halves[0].tensors()[key] + halves[1].tensors()[key]
        torch.testing.assert_close(value, added, rtol=1e-4, atol=0)
        torch.testing.assert_close(value, in_turn.tensors()[key], rtol=1e-4, atol=0)
    assert whole.num_tokens == MASK.sum() and whole.num_samples == 3


def test_no_mask_is_a_mask_of_all():
    rows, model = tokens(), build(CONFIGS["llama"])
    without = measure("llama", model, [(rows, None)])
    masked = measure("llama", model, [(rows, torch.ones_like(rows, dtype=torch.bool))])
    for key, value in without.tensors().items():
        torch.testing.assert_close(value, masked.tensors()[key])


def test_padding_does_not_change_scores():
    rows, mask = tokens(), torch.ones(2, 11, dtype=torch.bool)
    mask[:, 8:] = False
    other = rows.clone()
    other[:, 8:] = 5
    model = build(CONFIGS["llama"])
    first, second = (measure("llama", model, [(r, mask)]) for r in (rows, other))
    for key, value in first.tensors().items():
        torch.testing.assert_close(value, second.tensors()[key])


def test_a_small_change_of_a_layer_keeps_its_digits():
    """1 - cosine of about 1e-8, which float32 cannot hold beside 1."""
    model = build(CONFIGS["llama"])
    with torch.no_grad():
        for probe in probes(CONFIGS["llama"])[:2]:
            for path in (probe.down, probe.output):
                model.get_submodule(path).weight.mul_(1e-4 if probe.layer.endswith("0") else 2e-4)
    rows = tokens()
    measured = measure("llama", model, [(rows, None)]).finish(shape_of(CONFIGS["llama"])).layers
    wanted = by_definition("llama", model, rows, torch.ones_like(rows, dtype=torch.bool)).layers
    assert wanted[0] < 1e-6
    torch.testing.assert_close(measured.double(), wanted, rtol=0.02, atol=0)


def test_bfloat16_activations_are_summed_in_float32():
    model, rows = build(CONFIGS["llama"]), tokens(2, 64)
    exact = measure("llama", model, [(rows, None)]).finish(shape_of(CONFIGS["llama"]))
    rounded = measure("llama", model.bfloat16(), [(rows, None)]).finish(shape_of(CONFIGS["llama"]))
    torch.testing.assert_close(rounded.ffn, exact.ffn, rtol=0.1, atol=0.02)
    assert all(value.dtype == torch.float32 for value in rounded.tensors().values())


def test_the_model_is_left_as_it_was():
    model = build(CONFIGS["llama"])
    measure("llama", model, [(tokens(), None)])
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks and all(parameter.grad is None for parameter in model.parameters())


def test_a_forward_pass_outside_a_microbatch_or_twice_in_one_is_a_bug():
    model, shape = build(CONFIGS["llama"]), shape_of(CONFIGS["llama"])
    with (
        measuring(model, probes(CONFIGS["llama"]), shape) as meter,
        pytest.raises(AssertionError, match="one forward"),
        meter.microbatch(None),
    ):
        output(model, tokens())
        output(model, tokens())
