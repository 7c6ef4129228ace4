"""The job that is run on the hosts, and what it comes to when nothing happens to it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from faults.outcome import outcome
from hosts.ray_hosts import RayHosts
from hosts.rows import Table
from support.tiny import tiny_job, write_job

NUM_STEPS = 300
CALM = "calm"


@cache
def job_file(folder: Path, storage: Path) -> Path:
    """Prune, then distill on two hosts, evaluate and export; with the model and the text, below `folder`."""
    stages: list[dict[str, Any]] = tiny_job(folder)["stages"]
    stages[2] |= {"budget": {"steps": NUM_STEPS}, "checkpoint": {"every": 25}, "zero_level": "gradients"}
    return write_job(folder, stages=stages, workers={"count": 2}, storage=str(storage))


def job_of(hosts: RayHosts) -> str:
    """The job file on these hosts."""
    return str(job_file(hosts.network.folder, hosts.storage))


def undisturbed(hosts: RayHosts, table: Table) -> dict[str, Any]:
    """Run the job once in the life of the hosts; its outcome, which all others are compared with."""
    run = hosts.storage / CALM
    if not run.exists():
        with table.row("hosts", "the job, submitted and followed by the client; nothing happens to it") as seen:
            told = hosts.espalier("submit", job_of(hosts), f"name={CALM}", "--address", hosts.address, "--follow")
            assert told.returncode == 0, told.stdout[-2000:]
            seen.append("exit 0")
    return outcome(run)
