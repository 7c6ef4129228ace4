"""The memory of a worker: what must fall when something is shared, and the activations against torch's own account."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
import torch

from espalier.config.training import TuneConfig
from espalier.data.batch import Batch
from espalier.models.build import build_network
from espalier.models.families import num_parameters, shape_of, tuned_names
from espalier.models.trained_part import TrainedPart
from espalier.planning.memory import Training, student_memory, teacher_memory
from support.models import LLAMA

SHAPE, NUM_PARAMETERS = shape_of(LLAMA), 100_000_000
BASE = Training(zero_level="none", ranks=4, value_bytes=2, microbatch_tokens=1000, on_gpu=True)


def total(**changes: object) -> float:
    return student_memory(SHAPE, NUM_PARAMETERS, replace(BASE, **changes)).total


def test_each_level_shares_more() -> None:
    levels = ("none", "optimizer", "gradients", "parameters")
    states = [student_memory(SHAPE, NUM_PARAMETERS, replace(BASE, zero_level=level)) for level in levels]
    held = [memory.weights + memory.gradients + memory.masters + memory.moments for memory in states]
    assert held == sorted(held, reverse=True) and len(set(held)) == 4
    assert held[-1] == pytest.approx((2 + 4 + 4 + 8) * NUM_PARAMETERS / 4)


@pytest.mark.parametrize("level", ["optimizer", "gradients", "parameters"])
def test_more_workers_need_less_each(level: str) -> None:
    assert total(zero_level=level, ranks=8) < total(zero_level=level, ranks=2)


def test_offload_takes_masters_and_moments_off_the_device() -> None:
    memory = student_memory(SHAPE, NUM_PARAMETERS, replace(BASE, zero_level="gradients", offload=True))
    assert memory.masters == memory.moments == 0


def test_the_loss_in_bfloat16_on_a_gpu_leaves_blocks_of_logits_and_the_gradient_of_a_chunk() -> None:
    shape = replace(SHAPE, vocabulary=128_256)
    many = replace(BASE, microbatch_tokens=8192)
    alone = student_memory(shape, NUM_PARAMETERS, many).loss_head
    taught = student_memory(shape, NUM_PARAMETERS, replace(many, has_teacher=True)).loss_head
    assert taught - alone == 4 * 128_256 * 256  # the teacher's logits of a block
    assert alone == 128_256 * (2 * 2048 + 4 * 256 + (4 + 2) * shape.hidden)
    assert student_memory(shape, NUM_PARAMETERS, replace(many, value_bytes=4)).loss_head > taught


def test_a_sharded_teacher_is_smaller_than_a_whole_one() -> None:
    whole, sharded = (
        teacher_memory(SHAPE, 8 * 10**9, zero_level=level, ranks=8, value_bytes=2) for level in ("none", "parameters")
    )
    assert sharded < whole / 2


def test_activations_are_what_autograd_keeps() -> None:
    config = {**LLAMA, "hidden_size": 384, "intermediate_size": 1024, "head_dim": 64, "num_hidden_layers": 4}
    rows, length = 2, 128
    kept = _saved_bytes(config, rows, length)
    training = replace(BASE, microbatch_tokens=rows * length)
    assert student_memory(shape_of(config), num_parameters(config), training).activations == pytest.approx(
        kept, rel=0.15
    )


@pytest.mark.parametrize(
    "patterns",
    [
        ("*.q_proj.*", "*.v_proj.*", "*norm*"),
        ("*norm*",),
        ("*.down_proj.*",),
        ("*.o_proj.*", "*.gate_proj.*"),
        ("*.layers.3.*", "model.norm.*"),
        ("*embed*",),
    ],
)
def test_activations_of_a_part_are_what_autograd_keeps(patterns: tuple[str, ...]) -> None:
    config = {**LLAMA, "hidden_size": 384, "intermediate_size": 1024, "head_dim": 64, "num_hidden_layers": 4}
    rows, length = 2, 128
    trained = tuned_names(config, TuneConfig(only=patterns))
    assert trained is not None
    kept = _saved_bytes(config, rows, length, trained)
    part, training = TrainedPart.of(config, trained), replace(BASE, microbatch_tokens=rows * length)
    memory = student_memory(shape_of(config), num_parameters(config), training, part)
    assert memory.activations == pytest.approx(kept, rel=0.15)


def test_what_is_frozen_is_weights_alone() -> None:
    config = {**LLAMA, "num_hidden_layers": 4}
    part = TrainedPart.of(config, {"model.norm.weight"})
    for level, weights in (("none", 2), ("gradients", 2), ("parameters", 2 / 4)):
        memory = student_memory(shape_of(config), NUM_PARAMETERS, replace(BASE, zero_level=level), part)
        assert memory.weights == weights * NUM_PARAMETERS
        assert memory.gradients + memory.masters + memory.moments <= 18 * part.num_parameters
        assert memory.activations < 2000 * 1000


def test_checkpointing_keeps_less() -> None:
    assert total(activation_checkpointing=True) < total()


def _saved_bytes(config: dict[str, object], rows: int, length: int, trained: Collection[str] | None = None) -> int:
    network = build_network(config, dtype=torch.bfloat16, device=torch.device("cpu")).train()
    for name, parameter in network.model.named_parameters():
        parameter.requires_grad_(trained is None or name in trained)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    found: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(rows, length, dtype=torch.long)
    batch = Batch(ids, ids, torch.arange(length).expand(rows, -1), None, torch.arange(rows), torch.ones(rows))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(batch)
        del output
    return sum(found.values())
