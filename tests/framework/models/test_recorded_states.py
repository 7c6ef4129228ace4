"""Hidden states of inner layers, taken out of the stock forward of every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.models.families import is_causal
from espalier.models.hidden_states import StatesUse
from espalier.models.network import Network
from espalier.models.projections import Projections
from support.architectures import CONFIGS, build

FAMILIES = ("llama", "qwen3", "gpt2", "bert_masked_lm", "bert_classifier")
Taken = tuple[Tensor, ...]


def batch_of(length: int = 7) -> Batch:
    ids = torch.from_numpy(np.random.default_rng(3).integers(3, 53, (2, length)))
    return Batch(ids, ids, torch.arange(length).expand(2, -1), None, torch.arange(2), torch.ones(2))


def taking(*layers: int, projections: tuple[str | None, ...] | None = None) -> StatesUse[Taken]:
    names = projections or (None,) * len(layers)
    return StatesUse(layers, names, lambda hidden, weight, bias, states: (hidden, *states))


def with_projection(family: str, name: str) -> Network:
    """A model and one projection to the width of the Llama."""
    network = Network(build(CONFIGS[family]), causal=True)
    network.add(Projections((name,), CONFIGS[family], CONFIGS["llama"]))
    return network


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_those_that_stock_code_gives(name: str) -> None:
    stock, config = build(CONFIGS[name]), CONFIGS[name]
    network = Network(build(CONFIGS[name]), causal=is_causal(config)).eval()
    batch = batch_of()
    expected = stock.eval().base_model(batch.input_ids, output_hidden_states=True).hidden_states
    hidden, first, third, again = network(batch, taking(1, 2, 1))
    torch.testing.assert_close((first, third, again), (expected[1], expected[2], expected[1]))
    torch.testing.assert_close(hidden, network(batch))


def test_a_state_goes_through_its_projection_and_carries_gradients_to_both() -> None:
    network = with_projection("llama", "2-5")
    _, state, projected = network(batch_of(), taking(2, 2, projections=(None, "2-5")))
    torch.testing.assert_close(projected, state @ network.beside["2-5"].weight.t())
    projected.sum().backward()
    inner, outer = network.layers[1], network.layers[2]
    assert all(one.grad is not None for one in (*inner.parameters(), network.beside["2-5"].weight))
    assert all(one.grad is None for one in outer.parameters())


def test_a_checkpointed_layer_gives_the_same_gradient_and_leaves_no_hook() -> None:
    def gradient(checkpointed: bool) -> list[Tensor]:
        network = Network(build(CONFIGS["llama"]), causal=True).train()
        if checkpointed:
            network.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        hidden, state = network(batch_of(), taking(2))
        (hidden.sum() + state.square().sum()).backward()
        assert not any(layer._forward_hooks for layer in network.layers)
        return [one.grad for layer in network.layers for one in layer.parameters()]

    torch.testing.assert_close(gradient(True), gradient(False))


def test_what_is_trained_has_its_name_on_disk() -> None:
    network = with_projection("gpt2", "1-2")
    assert list(network.weights) == [*dict(network.model.named_parameters()), "projections.1-2.weight"]
    assert network.weights["projections.1-2.weight"].shape == (60, 35)
    assert network.weights.keys() - network.model_weights.keys() == {"projections.1-2.weight"}
