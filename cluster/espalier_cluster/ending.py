"""Ending the processes of a group that hangs, after each has written down where it was."""

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
_PATIENCE_SECONDS = 15.0


def dump_on_signal(path: Path) -> None:
    """From now on a signal makes this process add the Python stacks of all its threads to `path`.

    The handler is C and waits for nothing, so it also works while a thread holds the interpreter's lock. What an
    earlier process left there stays: its successor starts before anybody has read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")  # stays open as long as the process lives: the handler writes to its descriptor
    faulthandler.register(_DUMP_SIGNAL, file=file, all_threads=True)


def end_processes(addresses: Sequence[WorkerAddress]) -> str:
    """Ask every process for its stacks, then kill it; what was found, for a person.

    Nodes that cannot be reached are left to Ray.
    """
    by_node: defaultdict[str, list[WorkerAddress]] = defaultdict(list)
    for address in addresses:
        by_node[address.node].append(address)
    answers = []
    for node, there in by_node.items():
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        task = ray.remote(_end).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
        answers.append(task.remote([(address.rank, address.pid) for address in there]))
    found = []
    for answer in answers:
        with contextlib.suppress(RayError):
            found += ray.get(answer, timeout=_PATIENCE_SECONDS)
    return "; ".join(found)


def _end(processes: list[tuple[int, int]]) -> list[str]:
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
