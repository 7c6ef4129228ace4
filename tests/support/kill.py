"""Running the command as a person does, and ending it as a power cut does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def start(job: Path, *arguments: str) -> subprocess.Popen[str]:
    """`espalier run` in a session of its own; it writes to `output.txt` beside the job."""
    command = [sys.executable, "-m", "espalier_cluster.command", "run", str(job), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    with (job.parent / "output.txt").open("a") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            text=True,
        )


def finish(job: Path, *arguments: str, seconds: float = 200) -> int:
    """Run to the end; the exit code."""
    return start(job, *arguments).wait(timeout=seconds)


def kill_when(process: subprocess.Popen[str], condition: Callable[[], bool], *, seconds: float = 200) -> None:
    """kill -9 the whole tree of `process` as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it ended by itself with {process.returncode}"
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in tree:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=10)
    process.wait()


def num_steps(run_folder: Path) -> int:
    """Steps in the record."""
    record = run_folder / "records" / "steps.jsonl"
    return record.read_bytes().count(b"\n") if record.exists() else 0
