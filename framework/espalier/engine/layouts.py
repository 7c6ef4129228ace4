"""Where each DeepSpeed optimizer (0.19.8) keeps a parameter's float32 master and moments.

Each layout answers one question: which run of which parameter does this worker own, and where is it in memory? All
else (writing, restoring, growing, pruning) works on (slot, name, offset, values) and never sees DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from espalier.checkpoint.fragments import Slot
from espalier.engine.adamw import MOMENTS


@dataclass(frozen=True)
class Piece:
    """A run of one parameter that this worker owns.

    Attributes:
        name: the parameter's name; offset: the run's start in the flattened parameter.
        views: slot -> 1-D float32 view of DeepSpeed's own memory; moments are absent before the first update.
    """

    name: str
    offset: int
    views: dict[Slot, Tensor]


class Layout(Protocol):
    def pieces(self) -> Iterator[Piece]: ...

    def make_moments(self, steps_taken: int) -> None:
        """Give a fresh optimizer empty moments, to be filled."""
        ...

    def publish(self) -> None:
        """Make the model's weights follow the masters that were just written. Collective."""
        ...


class PartitionedLayout:
    """Levels optimizer and gradients: masters of a parameter group lie flat, cut evenly over the workers.

    DeepSpeed's own links from parameters to moments are not used: with more than one parameter group they are made
    after the first group's update and stay empty for the others.
    """

    def __init__(self, optimizer: Any, names: dict[nn.Parameter, str]) -> None:
        self._optimizer, self._names = optimizer, names
        flats = "fp32_groups_flat_partition"  # BF16_Optimizer: level optimizer in bf16 with float32 gradients
        if not hasattr(optimizer, flats):
            flats = "single_partition_of_fp32_groups"  # DeepSpeedZeroOptimizer
        self._flats: list[Tensor] = getattr(optimizer, flats)

    def pieces(self) -> Iterator[Piece]:
        for parameter, name in self._names.items():
            mapping = cast(Any, parameter)._hp_mapping
            if mapping is None:  # nothing of it lies on this worker
                continue
            flat = self._flats[mapping.param_group_index]
            place = mapping.hp_fragment_address
            yield Piece(
                name,
                mapping.lp_fragment_address.start,
                {
                    slot: whole.detach().narrow(0, place.start, place.numel)
                    for slot, whole in _slots(flat, self._optimizer.optimizer.state).items()
                },
            )

    def make_moments(self, steps_taken: int) -> None:
        for flat in self._flats:
            _make_moments(self._optimizer.optimizer.state, flat, steps_taken)

    def publish(self) -> None:
        self._optimizer.update_lp_params()


class ShardedLayout:
    """Level parameters: worker r owns elements [r * piece, (r + 1) * piece) of every parameter; the last is padded."""

    def __init__(self, optimizer: Any, names: dict[nn.Parameter, str], *, rank: int) -> None:
        self._optimizer, self._names, self._rank = optimizer, names, rank

    def pieces(self) -> Iterator[Piece]:
        for parameter, name in self._names.items():
            offset, length = owned_run(parameter, self._rank)
            if length <= 0:
                continue
            group, start, _ = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
            flat = self._optimizer.fp32_partitioned_groups_flat[group]
            slots = _slots(flat, self._optimizer.optimizer.state)
            views = {slot: whole.detach().narrow(0, int(start), length) for slot, whole in slots.items()}
            yield Piece(name, offset, views)

    def make_moments(self, steps_taken: int) -> None:
        for flat in self._optimizer.fp32_partitioned_groups_flat:
            _make_moments(self._optimizer.optimizer.state, flat, steps_taken)

    def publish(self) -> None:
        for group in range(len(self._optimizer.fp32_partitioned_groups_flat)):
            self._optimizer._reassign_or_swap_out_partitioned_parameters(group)
        if persistent := self._optimizer.persistent_parameters:  # small ones stay gathered and would be stale
            persistent[0].all_gather(persistent)


def owned_run(parameter: nn.Parameter, rank: int) -> tuple[int, int]:
    """(offset, length) of what worker `rank` owns of a parameter at level parameters; length may be negative or 0."""
    sharded = cast(Any, parameter)  # zero.Init hangs its own attributes on it
    piece: int = sharded.ds_tensor.ds_numel
    return rank * piece, min(piece, sharded.ds_numel - rank * piece)


def _slots(flat: Tensor, state: dict[Tensor, dict[str, Tensor]]) -> dict[Slot, Tensor]:
    moments = state.get(flat, {})
    slots: dict[Slot, Tensor] = {"parameter": flat}
    return slots | {slot: moments[slot] for slot in MOMENTS if slot in moments}


def _make_moments(state: dict[Tensor, dict[str, Tensor]], flat: Tensor, steps_taken: int) -> None:
    state[flat] = {
        "step": torch.tensor(float(steps_taken), device=flat.device),
        **{slot: torch.zeros_like(flat, requires_grad=False) for slot in MOMENTS},
    }
