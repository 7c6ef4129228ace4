"""The rank of this process among the workers, and collectives between them. The only reader of rank variables."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from espalier.distributed.interface import stay_on_this_host

_TIMEOUT = timedelta(hours=2)  # long, because rank zero may load or export a large model while the others wait


@dataclass(frozen=True)
class World:
    """The workers of a run, seen from one of them.

    Attributes:
        rank: 0 to size - 1; rank zero writes what is written once.
        size: number of workers, R.
        device: of this worker.
        local_rank: place among the workers of this host.
    """

    rank: int
    size: int
    device: torch.device
    local_rank: int = 0

    @staticmethod
    def alone() -> World:
        """A world of one process. Creates a process group and LOCAL_RANK, because DeepSpeed requires both."""
        os.environ.setdefault("LOCAL_RANK", "0")
        if not dist.is_initialized():
            stay_on_this_host()
            # In memory: NCCL's watchdog accesses the store to the end, and waits for hours for a file that is gone.
            dist.init_process_group(_backend(), store=dist.HashStore(), rank=0, world_size=1, timeout=_TIMEOUT)
        return World.from_process_group()

    @staticmethod
    def from_process_group() -> World:
        """The world of the process group that Ray or a test has set up."""
        device, local_rank = torch.device("cpu"), int(os.environ.get("LOCAL_RANK", "0"))
        if torch.cuda.is_available():
            device = torch.device("cuda", local_rank % torch.cuda.device_count())
            torch.cuda.set_device(device)
        return World(dist.get_rank(), dist.get_world_size(), device, local_rank)

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    @property
    def is_first_of_host(self) -> bool:
        """Of the workers of one host exactly one is."""
        return self.local_rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all workers, on all of them. Collective; the argument is not changed."""
        total = values.to(self.device, copy=True)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def sum_flags(self, *flags: bool) -> tuple[int, ...]:
        """The number of workers on which each flag is set. Collective on CPUs, so it does not wait for a GPU."""
        counts = torch.tensor(flags, dtype=torch.int64)
        if self.size > 1:
            dist.all_reduce(counts)
        return tuple(counts.tolist())

    def gather(self, value: Any) -> list[Any]:
        """The values of all workers, by rank, on all of them. Collective.

        Args:
            value: a JSON value. JSON because torch's `all_gather_object` pickles, and loading a pickle runs code.
        """
        data = json.dumps(value).encode()
        return [json.loads(one) for one in (self._gather_bytes(data) if self.size > 1 else (data,))]

    def gather_on_rank_zero(self, data: bytes) -> list[bytes]:
        """The byte strings of all workers, by rank, on rank zero; nothing on the others. Collective."""
        return self._gather_bytes(data, everywhere=False) if self.size > 1 else [data]

    def _gather_bytes(self, data: bytes, *, everywhere: bool = True) -> list[bytes]:
        """Gather byte strings of different length, on CPUs as `sum_flags`."""
        own = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(own)
        dist.all_reduce(sizes)
        longest = int(sizes.max())
        rows = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size if everywhere or not self.rank else 0)]
        padded = torch.cat([own, own.new_zeros(longest - len(own))])
        if everywhere:
            dist.all_gather(rows, padded)
        else:
            dist.gather(padded, rows or None)
        return [bytes(row[: sizes[rank]].numpy()) for rank, row in enumerate(rows)]

    def from_rank_zero(self, value: Any) -> Any:
        """Broadcast rank zero's JSON value to all workers. Collective."""
        return self.gather(value if self.is_rank_zero else None)[0]

    def barrier(self) -> None:
        """Wait until every worker is here. Collective."""
        self.gather(None)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
