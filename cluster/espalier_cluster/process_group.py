"""Set up the workers' process group: through a file when all workers are on one host, else through Ray's TCP store.

The TCP store authenticates nobody; on several hosts there is no other way (SECURITY.md says what protects it). A file
in a folder of mode 0700 can be used by its owner alone.
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

from espalier.distributed.interface import reach_other_hosts, stay_on_this_host
from espalier_cluster.held_folders import hold, let_go, make_folder, sweep
from espalier_cluster.local_cluster import FOLDER

_LEAVE_SECONDS = 5.0


@dataclass
class ProcessGroupConfig(TorchConfig):
    """Ray's configuration of torch, with our rendezvous."""

    @property
    def backend_cls(self) -> type[Any]:
        return _ProcessGroup


class _ProcessGroup(_TorchBackend):
    """Ray's backend, with a rendezvous through a file on a single host.

    All ranks hold the file's folder: NCCL's threads access the store to the end, and wait for hours for a missing
    file. In a local cluster it is the cluster's own folder and is removed with it.
    """

    _held: str | None = None

    def on_start(  # type: ignore[override]  # narrowed to TorchConfig, as in Ray's own backend
        self, worker_group: BaseWorkerGroup, backend_config: TorchConfig
    ) -> None:
        if len(set(worker_group.execute(_node))) > 1:
            self._held = None
            worker_group.execute(_reach_other_nodes)
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(_set_torch_distributed_env_vars)
        self._held, file = worker_group.execute_single(0, _make_meeting)
        group = (len(worker_group), backend_config.backend, backend_config.timeout_s)
        meeting = (self._held, file, *group)
        ranks = range(len(worker_group))
        joining: list[Any] = [worker_group.execute_single_async(rank, _meet, rank, *meeting) for rank in ranks]
        ray.get(joining)

    def on_shutdown(  # type: ignore[override]  # as above
        self, worker_group: BaseWorkerGroup, backend_config: TorchConfig
    ) -> None:
        if self._held is None:
            super().on_shutdown(worker_group, backend_config)
            return
        leaving: list[Any] = worker_group.execute_async(_leave, self._held)
        left, waiting = ray.wait(leaving, num_returns=len(leaving), timeout=_LEAVE_SECONDS)
        ray.get(left)
        if not waiting:  # ranks that wait for a lost one never leave: they are killed, and a later sweep cleans up
            worker_group.execute_single(0, sweep)


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _reach_other_nodes() -> None:
    """Listen where the other nodes' Ray has reached this one. Runs on every rank."""
    reach_other_hosts(ray.util.get_node_ip_address())


def _make_meeting() -> tuple[str, str]:
    """Create the rendezvous; returns the folder to hold and the file in it. Runs on rank zero."""
    sweep()  # removes what killed groups left
    held = Path(os.environ.get(FOLDER) or make_folder())
    return str(held), f"{tempfile.mkdtemp(prefix='group-', dir=held)}/store"


def _meet(rank: int, held: str, file: str, size: int, backend: str, timeout_seconds: int) -> None:
    """Join the process group. Runs on every rank."""
    hold(Path(held))
    stay_on_this_host()
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # as Ray's own backend does
    # No number of ranks: with one, the store removes its file once that many copies of it are closed, and a rank may
    # have several (torch 2.13).
    store, timeout = dist.FileStore(file), timedelta(seconds=timeout_seconds)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


def _leave(held: str) -> None:
    """Leave the process group, then release its folder, which no thread accesses any more. Runs on every rank."""
    if dist.is_initialized():
        dist.destroy_process_group()
    let_go(Path(held))
