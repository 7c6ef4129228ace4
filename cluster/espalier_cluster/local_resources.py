"""Compare a plan with the memory, GPUs and cores of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess

import psutil

from espalier.planning.prepare import PreparedJob
from espalier.tracking.number_format import bytes_text


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
