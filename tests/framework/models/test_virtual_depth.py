"""Layers that run more than once are the unrolled model: loss and gradients, through every family's stock forward."""

from __future__ import annotations

import pytest
import torch

from espalier.data.batch import Batch
from espalier.models.families import is_causal, layout, resized, shape_of
from espalier.models.network import Network
from support.architectures import CONFIGS, WINDOWED, build, tokens

ORDERS = [(0, 0, 1, 1, 2, 2), (0, 1, 2, 0, 1), (0, 0, 0, 1, 2)]


def batch_of() -> Batch:
    ids = tokens()
    places = torch.arange(ids.shape[1]).expand_as(ids)
    documents = (places > 4).long()  # two documents a row, so that masks are more than causal
    positions = places - 5 * documents
    return Batch(ids, ids, positions, documents, torch.arange(len(ids)), torch.ones(len(ids)))


def passed(network: Network) -> torch.Tensor:
    network.zero_grad()
    hidden = network(batch_of())
    (hidden.double() ** 3).mean().backward()
    return hidden.detach()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", [*CONFIGS, *WINDOWED])
def test_equals_the_unrolled_model(name: str, checkpointing: bool) -> None:
    config = (CONFIGS | WINDOWED)[name]
    stock = build(config)
    for order in ORDERS[: 1 if checkpointing else 3]:
        unrolled_config = resized(config, shape_of(config).cut(layers=len(order)), kept_layers=order)
        unrolled = build(unrolled_config)
        own, weights = layout(config), dict(stock.named_parameters())
        with torch.no_grad():
            for key, value in unrolled.named_parameters():
                layer = layout(unrolled_config)[key].layer
                old = key if layer is None else key.replace(f".{layer}.", f".{order[layer]}.")
                assert old in own
                value.copy_(weights[old])
        shared = Network(build(config), causal=is_causal(config))
        shared.model.load_state_dict(stock.state_dict())
        networks = shared, Network(unrolled, causal=is_causal(config))
        if checkpointing:
            for network in networks:
                network.train()
                network.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
                network.model.apply(lambda module: setattr(module, "p", 0.0) if hasattr(module, "p") else None)
        shared.run_layers(order)
        assert passed(shared).equal(passed(networks[1]))
        _gradients_add_up(networks, order, unrolled_config)
        shared.run_layers(None)
        plain = Network(build(config), causal=is_causal(config))
        assert passed(shared).equal(passed(plain)), "and back"
        assert shared.model.state_dict().keys() == plain.model.state_dict().keys()


def _gradients_add_up(networks: tuple[Network, Network], order: tuple[int, ...], config: dict[str, object]) -> None:
    shared, unrolled = (dict(network.model.named_parameters()) for network in networks)
    sums: dict[str, torch.Tensor] = {}
    for key, parameter in layout(config).items():
        old = key if parameter.layer is None else key.replace(f".{parameter.layer}.", f".{order[parameter.layer]}.")
        if unrolled[key].grad is not None:
            sums[old] = sums.get(old, 0) + unrolled[key].grad
    for key, total in sums.items():
        torch.testing.assert_close(shared[key].grad, total, rtol=1e-5, atol=1e-7, msg=key)
