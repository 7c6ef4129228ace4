"""A client killed at drawn instants of a submit: no job or one, and the next submit finds it."""

from __future__ import annotations

import random
import subprocess
import time

from hosts.jobs import run_of, submit
from hosts.ray_hosts import RayHosts, wait_for
from hosts.rows import Table

NUM_KILLS = 30
_SEED = 7
_END_SECONDS = 60.0


def play(hosts: RayHosts, table: Table) -> None:
    """Half of the instants are drawn over the whole command, half over the time after its first file."""
    with table.row("submits", f"the client killed at {NUM_KILLS} instants of a submit") as seen:
        from_start, from_file = _times(hosts)
        draw = random.Random(_SEED)
        counts = {0: 0, 1: 0}
        for number in range(NUM_KILLS):
            name = f"killed-{number:02d}"
            after_file = number % 2 == 1
            delay = draw.uniform(0.0, from_file if after_file else from_start)
            counts[_kill_and_repeat(hosts, name, delay, after_file=after_file)] += 1
        seen.append(
            f"{counts[0]} times no job, {counts[1]} times one; the next submit found it or started the only one"
        )
        assert min(counts.values()) > 0, f"the instants were not on both sides of the start: {counts}"


def _kill_and_repeat(hosts: RayHosts, name: str, delay: float, *, after_file: bool) -> int:
    """Kill one submit, look how many jobs there are, and submit again; returns how many there were."""
    client = _start(hosts, name)
    if after_file:
        wait_for(lambda: (run_of(hosts, name) / "submits").is_dir(), pause=0.002)
    time.sleep(delay)
    hosts.client.kill_started(client)
    found = _jobs_of(hosts, name)
    assert len(found) <= 1, f"{name}, killed after {delay:.3f} s: {found}"
    told = hosts.espalier(*submit(hosts, name))
    assert told.returncode == 0, f"{name}: {told.stdout}"
    after = _jobs_of(hosts, name)
    assert len(after) == 1 and after[0] in told.stdout, f"{name}: {after}, but {told.stdout}"
    assert not found or (found == after and "goes on already" in told.stdout), f"{name}: {found} before, {told.stdout}"
    hosts.ask(f"/api/jobs/{after[0]}/stop", method="POST")
    wait_for(lambda: hosts.jobs()[after[0]]["status"] not in ("PENDING", "RUNNING"), seconds=_END_SECONDS)
    return len(found)


def _times(hosts: RayHosts) -> tuple[float, float]:
    """Seconds that a submit takes, from its start and from its first file."""
    began = time.monotonic()
    client = _start(hosts, "timed")
    wait_for(lambda: (run_of(hosts, "timed") / "submits").is_dir(), pause=0.002)
    first_file = time.monotonic()
    assert client.wait(60) == 0, hosts.client.output("submits.log")
    ended = time.monotonic()
    hosts.ask(f"/api/jobs/{_jobs_of(hosts, 'timed')[0]}/stop", method="POST")
    return ended - began, ended - first_file


def _start(hosts: RayHosts, name: str) -> subprocess.Popen[bytes]:
    return hosts.start_espalier(*submit(hosts, name), log="submits.log")


def _jobs_of(hosts: RayHosts, name: str) -> list[str]:
    """Ids of the jobs of a run, as the cluster lists them."""
    folder = str(run_of(hosts, name))
    return [one for one, told in hosts.jobs().items() if told["metadata"].get("run_folder") == folder]
