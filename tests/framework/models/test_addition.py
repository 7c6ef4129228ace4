"""What an addition is to a network: names, shared layers, products, and what autograd keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from espalier.data.batch import Batch
from espalier.engine.adamw import added_rate_scales
from espalier.engine.objective import TokenObjective
from espalier.models.addition import AddedParameter
from espalier.models.build import build_network
from espalier.models.families import layout, num_parameters, shape_of
from espalier.models.flops import trained_flops
from espalier.models.network import Network
from espalier.models.projections import Projections
from espalier.models.trained_part import TrainedPart
from espalier.objectives.terms import Term
from espalier.planning.memory import Training, student_memory
from support.architectures import CONFIGS
from support.lora_plugin.espalier_lora.adapter import LowRank
from support.models import LLAMA

ROWS, LENGTH = 2, 128
LARGE = {**LLAMA, "hidden_size": 384, "intermediate_size": 1024, "head_dim": 64, "num_hidden_layers": 4}
LARGE_GPT2 = {**CONFIGS["gpt2"], "n_embd": 384, "n_head": 6, "n_layer": 4, "n_positions": LENGTH, "resid_pdrop": 0.0}
LARGE_GPT2 |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0}


def adapters_of(config: dict[str, Any], *words: str, rank: int = 8) -> LowRank:
    ends = tuple(f".{word}.weight" for word in words)
    return LowRank(config, tuple(name for name in layout(config) if name.endswith(ends)), rank, scale=0.5)


def network_of(part: TrainedPart, *, dtype: torch.dtype = torch.float32, spread: float = 0.02) -> Network:
    """With random values, of which those of the part ask for gradients."""
    cpu, draw = torch.device("cpu"), torch.Generator().manual_seed(5)
    network = build_network(part.config, dtype=dtype, device=cpu, additions=part.additions)
    for name, weight in network.weights.items():
        weight.data.normal_(std=spread, generator=draw)
        weight.requires_grad_(name in part.names or name in part.added)
    return network.train()


def batch_of(vocabulary: int) -> Batch:
    ids = torch.randint(0, vocabulary, (ROWS, LENGTH), generator=torch.Generator().manual_seed(3))
    return Batch(ids, ids, torch.arange(LENGTH).expand(ROWS, -1), None, torch.arange(ROWS), torch.ones(ROWS))


@pytest.mark.parametrize("order", [None, (0, 1, 1, 2, 2)])
@pytest.mark.parametrize(("model", "words"), [("llama_biased", ("q_proj", "v_proj")), ("gpt2", ("c_attn", "c_proj"))])
def test_a_folded_network_computes_the_same(model: str, words: tuple[str, ...], order: tuple[int, ...] | None) -> None:
    """With layers that run more than once, too: each time with what was added to them."""
    config = CONFIGS[model]
    adapters, cpu = adapters_of(config, *words), torch.device("cpu")
    network = network_of(TrainedPart.of(config, (), [adapters]), spread=0.2).eval()
    folded = build_network(config, dtype=torch.float32, device=cpu).eval()
    with torch.no_grad():
        for name, weight in folded.weights.items():
            value = network.weights[name]
            weight.copy_(adapters.fold(name, network.weights.__getitem__) if name in adapters.folded else value)
        for one in (network, folded):
            one.run_layers(order)
        batch = replace(batch_of(config["vocab_size"]), positions=torch.arange(20).expand(ROWS, -1))
        short = replace(batch, input_ids=batch.input_ids[:, :20], labels=batch.labels[:, :20])
        found, wanted = network(short), folded(short)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        network.weights[next(iter(adapters.parameters))].mul_(3.0)
        assert not torch.allclose(network(short), wanted, rtol=1e-3), "what is added takes part"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("config", "words", "names"),
    [
        (LARGE, ("q_proj", "v_proj"), ()),
        (LARGE, ("down_proj", "o_proj"), ("model.layers.2.input_layernorm.weight",)),
        (LARGE_GPT2, ("c_attn",), ()),
        (LARGE, ("q_proj",), tuple(layout(LARGE))),
    ],
)
def test_products_are_those_that_torch_counts(
    config: dict[str, Any], words: tuple[str, ...], names: tuple[str, ...], checkpointing: bool
) -> None:
    part = TrainedPart.of(config, names, [adapters_of(config, *words, rank=64)])
    network = network_of(part)
    if checkpointing:
        network.checkpoint_activations()
    batch = batch_of(config["vocab_size"])
    use = TokenObjective((Term.of("cross_entropy"),)).use(batch, None, [1.0])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(batch, use)[0].backward()
    tokens = {"tokens": ROWS * LENGTH, "sequence_tokens": LENGTH}
    counted = trained_flops(config, **tokens, activation_checkpointing=checkpointing, part=part)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize(("words", "rank"), [(("q_proj", "v_proj"), 8), (("down_proj",), 256), (("gate_proj",), 64)])
def test_activations_are_what_autograd_keeps(words: tuple[str, ...], rank: int) -> None:
    part = TrainedPart.of(LARGE, (), [adapters_of(LARGE, *words, rank=rank)])
    network = network_of(part, dtype=torch.bfloat16)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(batch_of(LARGE["vocab_size"]))
        del output
    training = Training(zero_level="none", ranks=1, value_bytes=2, microbatch_tokens=ROWS * LENGTH, on_gpu=False)
    memory = student_memory(shape_of(LARGE), num_parameters(LARGE), training, part)
    assert memory.activations == pytest.approx(sum(found.values()), rel=0.15)


def test_memory_counts_projections() -> None:
    part = TrainedPart.of(LLAMA, layout(LLAMA), [Projections(("1-1", "2-2"), LLAMA, LARGE)])
    held, added = num_parameters(LLAMA), 2 * 36 * 384
    training = Training(zero_level="gradients", ranks=2, value_bytes=2, microbatch_tokens=100, on_gpu=False)
    alone, beside = (student_memory(shape_of(LLAMA), held, training, one) for one in (None, part))
    assert part.num_parameters == held + added
    assert beside.weights - alone.weights == 2 * added
    assert beside.moments + beside.masters + beside.gradients == pytest.approx(16 / 2 * (held + added))
    assert beside.activations - alone.activations == 2 * 100 * 2 * 36


def test_the_rate_decays_with_the_layer_that_is_added_to() -> None:
    adapters = replace(adapters_of(LLAMA, "q_proj"), up_rate=4.0)
    scales = added_rate_scales(adapters.parameters, LLAMA, 0.5)
    assert list(scales.values()) == [0.125, 0.5, 0.25, 1.0, 0.5, 2.0], "3 layers; B learns 4 times as fast as A"
    of_loss = added_rate_scales(Projections(("1-1",), LLAMA, LARGE).parameters, LLAMA, 0.5)
    assert list(of_loss.values()) == [1.0]


@dataclass(frozen=True)
class _Wrong:
    """An addition that attaches itself as it is told."""

    attach_to: Callable[[Network], Mapping[str, nn.Parameter]]
    parameters: Mapping[str, AddedParameter]


def _wraps(network: Network) -> dict[str, nn.Parameter]:
    attention = network.layers[0].get_submodule("self_attn")
    attention.q_proj = nn.Sequential(attention.q_proj)
    return {}


def _hides(network: Network) -> dict[str, nn.Parameter]:
    network.layers[0].extra = nn.Linear(2, 2)
    return {}


@pytest.mark.parametrize(
    ("attach", "declared", "reason"),
    [
        (_wraps, {}, "renames parameters of the model"),
        (_hides, {}, "has parameters of its own that it does not declare"),
        (lambda network: {}, {"more": AddedParameter((2, 2), (0, 1))}, "declares"),
        (lambda network: dict(network.weights), {}, "declares"),
    ],
)
def test_what_does_not_leave_the_model_as_it_is_is_refused(
    attach: Callable[[Network], Any], declared: dict[str, AddedParameter], reason: str
) -> None:
    class Wrong(_Wrong):
        def attach(self, network: Network) -> Mapping[str, nn.Parameter]:
            return self.attach_to(network)

    with pytest.raises(ValueError, match=f"Wrong.*{reason}"):
        build_network(LLAMA, dtype=torch.float32, device=torch.device("cpu"), additions=[Wrong(attach, declared)])
