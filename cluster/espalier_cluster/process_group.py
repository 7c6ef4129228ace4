"""How the workers' process group comes together: through a file where one host is all there is.

torch's own way, a store that listens on a TCP port, asks nobody who they are. Several hosts have no other (SECURITY.md
says what protects it); on one, a file in a folder of mode 0700 can be used by its owner alone.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.train._internal.base_worker_group import BaseWorkerGroup  # these are not public (2.60)
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from espalier.distributed.loopback import stay_on_this_host
from espalier_cluster.embedded import FOLDER
from espalier_cluster.held_folders import hold, let_go, make_folder, sweep

_LEAVE_SECONDS = 5.0


@dataclass
class ProcessGroupConfig(TorchConfig):
    """As Ray's, with another way to meet."""

    @property
    def backend_cls(self) -> type[Any]:
        return _ProcessGroup


class _ProcessGroup(_TorchBackend):
    """The folder of the file is held by all ranks: NCCL's threads look into it to the end, and wait for hours for one
    that is gone. It is the cluster's own folder where the cluster is a run's own, and goes with that.
    """

    _held: str | None = None

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        if len(set(worker_group.execute(_node))) > 1:
            self._held = None
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(_set_torch_distributed_env_vars)
        self._held, file = worker_group.execute_single(0, _make_meeting)
        group = (len(worker_group), backend_config.backend, backend_config.timeout_s)
        meeting = (self._held, file, *group)
        ray.get([worker_group.execute_single_async(rank, _meet, rank, *meeting) for rank in range(len(worker_group))])

    def on_shutdown(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        if self._held is None:
            super().on_shutdown(worker_group, backend_config)
            return
        leaving = worker_group.execute_async(_leave, self._held)
        left, waiting = ray.wait(leaving, num_returns=len(leaving), timeout=_LEAVE_SECONDS)
        ray.get(left)
        if not waiting:  # ranks that wait for a lost one never leave: they are ended, and swept up after later
            worker_group.execute_single(0, sweep)


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _make_meeting() -> tuple[str, str]:
    """The folder to be held, and the file to meet at. Runs on rank zero."""
    sweep()  # after groups that were killed before this one
    held = Path(os.environ.get(FOLDER) or make_folder())
    return str(held), f"{tempfile.mkdtemp(prefix='group-', dir=held)}/store"


def _meet(rank: int, held: str, file: str, size: int, backend: str, timeout_seconds: int) -> None:
    """Join the group. Runs on every rank."""
    hold(Path(held))
    stay_on_this_host()
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # as Ray's own backend does
    # Without a number of ranks: given one, the store removes its file when so many of its copies were closed, and a
    # rank may have several (torch 2.13).
    store, timeout = dist.FileStore(file), timedelta(seconds=timeout_seconds)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


def _leave(held: str) -> None:
    """Leave the group, and let go of its folder once none of its threads can look there. Runs on every rank."""
    if dist.is_initialized():
        dist.destroy_process_group()
    let_go(Path(held))
