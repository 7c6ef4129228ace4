"""A client killed at drawn instants of a submit: no job or one, and the next submit finds it."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from hosts.jobs import run_of, submit
from hosts.ray_hosts import RayHosts, wait_for
from hosts.rows import Table

NUM_KILLS = 30
_SEED = 7
_END_SECONDS = 60.0


@dataclass(frozen=True)
class Moments:
    """Seconds from the start of a submit to its first file, and from there to its job and to its end."""

    first_file: float
    job: float
    end: float


def play(hosts: RayHosts, table: Table) -> None:
    """A third of the instants each is drawn before the first file, from there to the job, and from there to the end."""
    with table.row("submits", f"the client killed at {NUM_KILLS} instants of a submit") as seen:
        moments, draw = _moments(hosts), random.Random(_SEED)
        ranges = ((0.0, moments.first_file), (0.0, moments.job), (moments.job, moments.end))
        counts = {0: 0, 1: 0}
        for number in range(NUM_KILLS):
            delay = draw.uniform(*ranges[number % 3])
            num_jobs = _kill_and_repeat(hosts, f"killed-{number:02d}", delay, after_file=number % 3 > 0)
            counts[num_jobs] += 1
        seen.append(
            f"{counts[0]} times no job, {counts[1]} times one; the next submit found it or started the only one"
        )
        assert min(counts.values()) > 0, f"the instants were not on both sides of the start: {counts}"


def _kill_and_repeat(hosts: RayHosts, name: str, delay: float, *, after_file: bool) -> int:
    """Kill one submit, look how many jobs there are, and submit again; returns how many there were.

    Args:
        delay: seconds until the kill, from the start or from the first file.
    """
    client = _start(hosts, name)
    if after_file:
        wait_for(_has_file(hosts, name), pause=0.002)
    time.sleep(delay)
    hosts.client.kill_started(client)
    found = _jobs_of(hosts, name)
    assert len(found) <= 1, f"{name}, killed after {delay:.3f} s: {found}"
    told = hosts.espalier(*submit(hosts, name))
    assert told.returncode == 0, f"{name}: {told.stdout}"
    after = _jobs_of(hosts, name)
    assert len(after) == 1 and after[0] in told.stdout, f"{name}: {after}, but {told.stdout}"
    assert not found or (found == after and "goes on already" in told.stdout), f"{name}: {found} before, {told.stdout}"
    _stop(hosts, after[0])
    return len(found)


def _moments(hosts: RayHosts) -> Moments:
    """Of one submit that nobody kills, after one that has read the programs from the disk."""
    for name in ("warm", "timed"):
        began = time.monotonic()
        client = _start(hosts, name)
        first_file = wait_for(_has_file(hosts, name), pause=0.002)
        job = wait_for(lambda name=name: bool(_jobs_of(hosts, name)), pause=0.002)  # type: ignore[misc]
        assert client.wait(60) == 0, hosts.client.output("submits.log")
        end = time.monotonic() - began - first_file
        _stop(hosts, _jobs_of(hosts, name)[0])
    return Moments(first_file, job, end)


def _has_file(hosts: RayHosts, name: str) -> Callable[[], bool]:
    return (run_of(hosts, name) / "submits").is_dir


def _stop(hosts: RayHosts, job: str) -> None:
    hosts.ask(f"/api/jobs/{job}/stop", method="POST")
    wait_for(lambda: hosts.jobs()[job]["status"] not in ("PENDING", "RUNNING"), seconds=_END_SECONDS)


def _start(hosts: RayHosts, name: str) -> subprocess.Popen[bytes]:
    return hosts.start_espalier(*submit(hosts, name), log="submits.log")


def _jobs_of(hosts: RayHosts, name: str) -> list[str]:
    """Ids of the jobs of a run, as the cluster lists them."""
    folder = str(run_of(hosts, name))
    return [one for one, told in hosts.jobs().items() if told["metadata"].get("run_folder") == folder]
