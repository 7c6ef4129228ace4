"""Several ranks on this machine, meeting through a file, with a bound on their time."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from espalier.distributed.world import World
from espalier.jobs.kind import KINDS

# Without GPUs ranks are forked from a process that has only imported these: each would take seconds for it. CUDA
# cannot be used after a fork.
_START = "spawn" if torch.cuda.is_available() else "forkserver"
_LAZY = (  # what these import on first use
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.stage_1_and_2",
    "deepspeed.runtime.zero.stage3",
    "sklearn.metrics",
    "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
)
_WORK = (kind.work.partition(":")[0] for kind in KINDS.values())
multiprocessing.set_forkserver_preload(["deepspeed", *_WORK, *_LAZY, "espalier.worker.run_stage"])


def run_ranks(work: Callable[..., Any], num_ranks: int, *arguments: Any, seconds: float = 240) -> list[Any]:
    """What `work(world, *arguments)` returns on each of `num_ranks` processes, by rank.

    Args:
        work: a function of a module (it is found again by name).
        seconds: after which everything is killed and the test fails.
    """
    with tempfile.TemporaryDirectory(prefix="espalier-ranks-") as folder:
        # Two ranks cannot share a GPU through NCCL: where there are too few, they see none.
        environment = {**os.environ} | ({"CUDA_VISIBLE_DEVICES": ""} if torch.cuda.device_count() < num_ranks else {})
        given = (num_ranks, folder, environment, work, arguments)
        context = mp.start_processes(_rank, given, nprocs=num_ranks, join=False, start_method=_START)
        deadline = time.monotonic() + seconds
        while not context.join(timeout=1.0):
            if time.monotonic() > deadline:
                for process in context.processes:
                    process.kill()
                raise TimeoutError(f"{num_ranks} ranks did not end within {seconds:.0f} s")
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(num_ranks)]


def _rank(
    rank: int,
    num_ranks: int,
    folder: str,
    environment: dict[str, str],
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ |= environment
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(num_ranks)}
    gc.freeze()  # engines collect as they close: not through all that was imported
    torch.set_num_threads(1)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=120),
    )
    result = work(World.from_process_group(), *arguments)
    torch.save(result, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()
