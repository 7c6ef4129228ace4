"""What is planted is found, group by group."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from espalier.config.faults import RefusedInput
from espalier.models.families import probes, shape_of
from espalier.models.shape import ModelShape
from espalier.surgery.choose_units import choose
from espalier.surgery.importance import measuring
from espalier.surgery.keep import Keep
from espalier.surgery.scores import Scores
from support.architectures import CONFIGS, build, output, tokens

SHAPE = shape_of(CONFIGS["llama"])  # 6 heads in 2 groups


def test_planted_importance_is_found():
    config = CONFIGS["llama"]
    model = build(config)
    loud = {0: (2, 3, 31), 1: (0, 7, 11), 2: (5, 6, 36)}
    with torch.no_grad():
        for layer, neurons in loud.items():
            mlp = model.model.layers[layer].mlp
            for neuron in set(range(37)) - set(neurons):
                mlp.up_proj.weight[neuron] *= 0.01
        for path in (probes(config)[1].down, probes(config)[1].output):
            model.get_submodule(path).weight.mul_(1e-3)
        for probe in probes(config):
            for path in probe.norms:
                model.get_submodule(path).weight[[4, 9]] *= 1e-3
    with measuring(model, probes(config), SHAPE) as meter, meter.microbatch(None):
        output(model, tokens())
    scores = meter.sums.finish(SHAPE)
    keep = choose(scores, parent=SHAPE, child=SHAPE.cut(layers=2, hidden=58, ffn=3, heads=4))
    assert keep.layers == (0, 2)
    assert keep.ffn == (loud[0], loud[2])
    assert keep.hidden == tuple(n for n in range(60) if n not in (4, 9))


def test_heads_are_chosen_in_each_group():
    scores = Scores(
        ffn=torch.zeros(3, 37),
        heads=torch.tensor([[9.0, 8, 7, 1, 3, 2]] * 3),  # the first group's worst beats the second's best
        hidden=torch.zeros(60),
        layers=torch.zeros(3),
    )
    assert choose(scores, parent=SHAPE, child=SHAPE.cut(heads=4)).heads == ((0, 1, 4, 5),) * 3
    unshared = shape_of(CONFIGS["llama_unshared"])
    scores = _random_scores(unshared, 3)
    scores.heads[:] = torch.tensor([9.0, 8, 7, 1, 3, 2])
    assert choose(scores, parent=unshared, child=unshared.cut(heads=4)).heads == ((0, 1, 2, 4),) * 3


def test_of_equal_scores_the_first_stay():
    scores = Scores(torch.ones(3, 37), torch.ones(3, 6), torch.ones(60), torch.ones(3))
    keep = choose(scores, parent=SHAPE, child=SHAPE.cut(layers=2, hidden=50, ffn=5, heads=2))
    assert keep == Keep((0, 1), tuple(range(50)), ((0, 1, 2, 3, 4),) * 2, ((0, 3),) * 2)


def test_the_parents_shape_keeps_everything():
    assert choose(_random_scores(SHAPE, 5), parent=SHAPE, child=SHAPE) == Keep.everything(SHAPE)


def test_a_smaller_cut_contains_the_larger_one():
    scores = _random_scores(SHAPE, 5)
    wide, narrow = (choose(scores, parent=SHAPE, child=SHAPE.cut(ffn=n, hidden=2 * n)) for n in (23, 11))
    assert set(narrow.hidden) < set(wide.hidden)
    assert all(set(a) < set(b) for a, b in zip(narrow.ffn, wide.ffn, strict=True))


def test_saved_scores_choose_the_same():
    scores = _random_scores(SHAPE, 5)
    child = SHAPE.cut(layers=2, hidden=44, ffn=7, heads=4)
    again = Scores.from_tensors(load(save(scores.tensors())))
    assert choose(again, parent=SHAPE, child=child) == choose(scores, parent=SHAPE, child=child)


def test_scores_of_another_model_are_refused():
    with pytest.raises(RefusedInput, match="scores"):
        choose(_random_scores(SHAPE.cut(ffn=36), 5), parent=SHAPE, child=SHAPE)


def _random_scores(shape: ModelShape, seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return Scores(
        ffn=torch.rand(shape.layers, shape.ffn, generator=generator),
        heads=torch.rand(shape.layers, shape.heads, generator=generator),
        hidden=torch.rand(shape.hidden, generator=generator),
        layers=torch.rand(shape.layers, generator=generator),
    )
