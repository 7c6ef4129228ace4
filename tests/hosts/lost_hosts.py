"""A run whose hosts are cut off, killed and replaced, its head too: it comes to the bits of an undisturbed one."""

from __future__ import annotations

import time
from pathlib import Path

from espalier.stages.run_folder import RunFolder
from faults.outcome import differences, outcome
from hosts.jobs import NAME, run_of, submit, undisturbed
from hosts.ray_hosts import RayHosts, processes_of, wait_for
from hosts.rows import Table
from support.kill import num_steps

_MORE_STEPS = 15
_BRIEF_SECONDS = 6.0
_PATIENCE_SECONDS = 400.0


def play(hosts: RayHosts, table: Table) -> None:
    """All rows, in the order of the run."""
    expected = undisturbed(hosts, table)
    run = run_of(hosts, "rough")
    with table.row("hosts", "the same job again, followed by `logs -f`") as seen:
        told = hosts.espalier(*submit(hosts, "rough"))
        assert told.returncode == 0, told.stdout
        follower = hosts.start_espalier("logs", str(run), "--follow", log="followed.log")
        seen.append(f"step {_wait_for_steps(run, 2 * _MORE_STEPS)}")
    _cut_briefly(hosts, table, run)
    _cut_until_dead(hosts, table, run)
    _replace_worker(hosts, table, run)
    with table.row("hosts", "the head killed, the driver on it") as seen:
        step = num_steps(run)
        assert hosts.head is not None
        hosts.kill(hosts.head)
        seen.append(f"after step {step}; `logs -f` ended with {follower.wait(150)}")
        assert follower.returncode == 75, hosts.client.output("followed.log")
        left = [one.name for one in hosts.workers if processes_of(one, "ray::RayTrainWorker")]
        assert not left, f"workers go on without a driver on {left}"
        seen.append(f"the workers ended by themselves, after step {num_steps(run)}")
        for host in hosts.workers:  # where Ray has not noticed yet; a person would say `ray stop`
            host.end_processes()
    with table.row("hosts", "a new cluster, and `resume NAME` on the client") as seen:
        hosts.start_head("head-2")
        for host in hosts.workers:
            hosts.start_node(host)
        hosts.wait_for_nodes()
        where = ("--storage", str(run.parent), "--address", hosts.address)
        told = hosts.espalier("resume", NAME, *where, "--follow", seconds=900)
        seen.append(next((line for line in told.stdout.splitlines() if ": it goes on " in line), told.stdout[-500:]))
        assert told.returncode == 0, told.stdout[-2000:]
    with table.row("hosts", "weights, states and record beside the undisturbed run's") as seen:
        different = differences(expected, outcome(run))
        assert not different, "; ".join(different[:3])
        seen.append(f"{len(expected)} values equal, after {_attempts(run)} attempts at 5 stages")


def _cut_briefly(hosts: RayHosts, table: Table, run: Path) -> None:
    with table.row("hosts", f"a worker's link cut for {_BRIEF_SECONDS:.0f} s mid-distill") as seen:
        before, attempts = num_steps(run), _attempts(run)
        hosts.network.cut(hosts.workers[1])
        time.sleep(_BRIEF_SECONDS)
        during = num_steps(run)
        hosts.network.mend(hosts.workers[1])
        mended = time.monotonic()
        _wait_for_steps(run, during + _MORE_STEPS)
        more = _attempts(run) - attempts
        seen.append(f"steps {before} to {during} meanwhile, goes on {time.monotonic() - mended:.1f} s after it is back")
        seen.append(f"{more} more attempts" if more else "nothing was taken up again")


def _cut_until_dead(hosts: RayHosts, table: Table, run: Path) -> None:
    with table.row("hosts", "a link cut until the cluster gives the node up, and brought back") as seen:
        host = hosts.workers[1]
        attempts = _attempts(run)
        hosts.network.cut(host)
        seconds = wait_for(lambda: host.address not in hosts.living_nodes(), seconds=150)
        seen.append(f"given up after {seconds:.0f} s")
        hosts.network.mend(host)
        seconds = wait_for(lambda: not processes_of(host, "raylet"), seconds=150)
        seen.append(f"Ray ends that node {seconds:.0f} s after the link is back")
        seconds = wait_for(lambda: not processes_of(host, "ray::"), seconds=60)
        seen.append(f"its workers {seconds:.0f} s later")
        step = num_steps(run)
        hosts.start_node(host)
        began = time.monotonic()
        seen.append(f"`ray start` again: goes on from {_taken_up(run, step)} {time.monotonic() - began:.0f} s later")
        seen.append(f"{_attempts(run) - attempts} more attempts")


def _replace_worker(hosts: RayHosts, table: Table, run: Path) -> None:
    with table.row("hosts", "a worker's host killed for good and replaced by a new one") as seen:
        attempts = _attempts(run)
        hosts.kill(hosts.workers[0])
        step, began = num_steps(run), time.monotonic()
        hosts.add_worker("worker-3")
        seen.append(f"goes on from {_taken_up(run, step)} {time.monotonic() - began:.0f} s later")
        seen.append(f"{_attempts(run) - attempts} more attempts")


def _taken_up(run: Path, step: int) -> str:
    """Wait until training goes on beyond the steps that were recorded; from where it did."""
    _wait_for_steps(run, step + _MORE_STEPS)
    return f"step {step}"


def _wait_for_steps(run: Path, number: int) -> int:
    wait_for(lambda: num_steps(run) >= number, seconds=_PATIENCE_SECONDS)
    return num_steps(run)


def _attempts(run: Path) -> int:
    return RunFolder(run).attempts()
