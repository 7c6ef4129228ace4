"""The job that is run on the hosts, and what it comes to when nothing happens to it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from faults.outcome import outcome
from hosts.ray_hosts import RayHosts
from hosts.rows import Table
from support.tiny import tiny_job, write_job

NUM_STEPS = 800  # so many that workers without a driver do not come to the end
NAME = "tiny"  # of all runs alike, as exports name it; each has a storage of its own
_CALM = "calm"


@cache
def _job_file(folder: Path) -> Path:
    """Prune, then distill on two hosts, evaluate and export; with the model and the text."""
    stages: list[dict[str, Any]] = tiny_job(folder)["stages"]
    stages[2] |= {"budget": {"steps": NUM_STEPS}, "checkpoint": {"every": 50}, "zero_level": "gradients"}
    return write_job(folder, name=NAME, stages=stages, workers={"count": 2})


def run_of(hosts: RayHosts, what: str) -> Path:
    """The folder of a run."""
    return hosts.storage / what / NAME


def submit(hosts: RayHosts, what: str, *settings: str) -> tuple[str, ...]:
    """The command that submits the job as a run of its own."""
    job, storage = _job_file(hosts.network.folder), run_of(hosts, what).parent
    return "submit", str(job), f"storage={storage}", *settings, "--address", hosts.address


def undisturbed(hosts: RayHosts, table: Table) -> dict[str, Any]:
    """Run the job once in the life of the hosts; its outcome, which all others are compared with."""
    run = run_of(hosts, _CALM)
    if not run.exists():
        with table.row("hosts", "the job, submitted and followed by the client; nothing happens to it") as seen:
            told = hosts.espalier(*submit(hosts, _CALM), "--follow", seconds=900)
            assert told.returncode == 0, told.stdout[-2000:]
            seen.append(f"exit 0, {NUM_STEPS} steps of distillation on 2 hosts")
    return outcome(run)
