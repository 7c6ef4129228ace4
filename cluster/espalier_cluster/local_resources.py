"""Compare a plan with the memory, GPUs and cores of this machine, and count the runs that fit side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from espalier.jobs.job import WorkersConfig
from espalier.planning.prepare import PreparedJob
from espalier.tracking.number_format import bytes_text

_PROCESS_BYTES = 2**30  # of a process that has loaded torch, transformers and DeepSpeed, beside its model
_RAY_BYTES = 2**30  # of a local cluster
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Room:
    """Places for runs side by side.

    Attributes:
        places: of each the variables that its run gets beside those of this process.
        bound: what more runs would lack.
    """

    places: tuple[Mapping[str, str], ...]
    bound: str


def local_room(workers: WorkersConfig, *, worker_bytes: int, in_process: bool, most: int) -> Room:
    """How many runs with such workers this machine has room for, at least one; each has GPUs and cores of its own.

    Args:
        worker_bytes: peak memory of a worker, without what its process takes.
        in_process: a run is one process; it computes with as many threads as OMP_NUM_THREADS says, else on all cores.
        most: number of runs.
    """
    count, cores = 1 if in_process else workers.count, len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    own_threads = int(asked) if asked.isdecimal() and int(asked) else cores
    threads = own_threads if in_process else workers.cpus_each
    gpus = visible_gpus()
    gpus_each = bool(gpus) if in_process else workers.gpus_each
    run_bytes = count * (_PROCESS_BYTES + worker_bytes * (not gpus_each)) + _PROCESS_BYTES
    run_bytes += 0 if in_process else _RAY_BYTES
    fitting = {
        "cores": cores // (count * threads),
        "memory": psutil.virtual_memory().available // run_bytes,
        "GPUs": len(gpus) // (count * gpus_each) if gpus_each else most,
    }
    bound = min(fitting, key=lambda one: fitting[one])
    places = max(1, min(most, fitting[bound]))
    if not gpus_each:
        return Room(({},) * places, bound)
    each = count * gpus_each
    return Room(tuple({_VISIBLE: ",".join(gpus[i * each : (i + 1) * each])} for i in range(places)), bound)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(_VISIBLE)
    if named is None:
        return [str(number) for number in range(len(gpu_bytes()))]
    return [one.strip() for one in named.split(",") if one.strip() not in ("", "-1")]


def room_line(prepared: PreparedJob) -> str:
    """One sentence that says whether a local run would fit on this machine."""
    workers = prepared.job.workers
    peak = max((preview.memory.total for preview in prepared.previews if preview.memory), default=0)
    if workers.gpus_each:
        sizes = gpu_bytes()
        if len(sizes) < workers.count:
            return f"here: {len(sizes)} GPUs for {workers.count} workers; give `run` the --address of a larger cluster"
        fits = "fits" if peak <= min(sizes) else "does NOT fit"
        return f"here: {bytes_text(peak)} a worker {fits} in {bytes_text(min(sizes))} of each of {len(sizes)} GPUs"
    total, needed = psutil.virtual_memory().total, peak * workers.count
    fits = "fit" if needed <= total else "do NOT fit"
    cores = os.cpu_count() or 1
    note = "" if workers.count * workers.cpus_each <= cores else f"; {cores} cores are fewer than the workers ask for"
    return f"here: {workers.count} workers of {bytes_text(peak)} {fits} in {bytes_text(total)} of memory{note}"


def gpu_bytes() -> list[int]:
    """Memory of each GPU of this machine, in bytes; empty without GPUs."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
    return [int(line) * 2**20 for line in answer.stdout.split()] if answer.returncode == 0 else []
