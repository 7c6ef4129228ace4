"""Kill the workers of a hanging group, after each has written its stack traces to a file."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from espalier_cluster.order_queue import WorkerAddress

_DUMP_SIGNAL = signal.SIGUSR2  # Ray takes SIGTERM and SIGUSR1
_DUMP_SECONDS = 1.0
_ANSWER_SECONDS = 15.0


def dump_on_signal(path: Path) -> None:
    """Install a signal handler that appends the Python stacks of all threads to `path`.

    The handler is written in C and takes no lock, so it works while a thread holds the GIL. It appends because the
    replacing worker starts before anybody has read the stacks of the killed one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")  # never closed: the handler writes to its descriptor
    faulthandler.register(_DUMP_SIGNAL, file=file, all_threads=True)


def kill_workers(addresses: Sequence[WorkerAddress]) -> str:
    """Make every worker write its stacks, then kill it with SIGKILL. Nodes that cannot be reached are left to Ray.

    Returns:
        For a person: which workers had been stopped from outside; empty when none.
    """
    by_node: defaultdict[str, list[WorkerAddress]] = defaultdict(list)
    for address in addresses:
        by_node[address.node].append(address)
    answers = []
    for node, there in by_node.items():
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        task = ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
        answers.append(task.remote([(address.rank, address.pid) for address in there]))
    found: list[str] = []
    for answer in answers:
        with contextlib.suppress(RayError):
            stopped: list[str] = ray.get(answer, timeout=_ANSWER_SECONDS)
            found += stopped
    return "; ".join(found)


def _kill(processes: list[tuple[int, int]]) -> list[str]:
    found = []
    for rank, pid in processes:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            status = psutil.Process(pid).status()
            if status == psutil.STATUS_STOPPED:
                found.append(f"worker {rank} was stopped from outside (process {pid})")
            os.kill(pid, _DUMP_SIGNAL)
    time.sleep(_DUMP_SECONDS)
    for _, pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found
