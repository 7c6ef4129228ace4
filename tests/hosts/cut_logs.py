"""Followers of a log whose storage, link or life is cut: every numbered line once."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from hosts.jobs import NUM_STEPS, run_of, submit
from hosts.numbers_tracker import LINES_OF_A_STEP
from hosts.ray_hosts import RayHosts, wait_for
from hosts.rows import Table
from support.kill import num_steps

_NUM_CUTS = 3
_CUT_SECONDS = 4.0
_MORE_STEPS = 20
_PATIENCE_SECONDS = 400.0
_LINE = re.compile(r"^numbered line (\d+)$", re.MULTILINE)


def play(hosts: RayHosts, table: Table) -> None:
    """Three followers of one run, cut at the same time."""
    run = run_of(hosts, "numbered")
    with table.row("logs", f"followers cut {_NUM_CUTS} times while the driver prints numbered lines") as seen:
        command = submit(hosts, "numbered", "tracking.numbers={}")
        followers = {"submit --follow": hosts.start_espalier(*command, "--follow", log="submit --follow")}
        wait_for((run / "submits" / "000001.json").exists, seconds=60)
        followers["logs --follow"] = hosts.start_espalier("logs", str(run), "--follow", log="logs --follow")
        num_cut = 0
        for cut in range(_NUM_CUTS):
            _wait_for_more(run)
            killed = hosts.start_espalier("logs", str(run), "--follow", log=f"killed {cut}")
            wait_for(lambda cut=cut: "numbered line" in hosts.client.output(f"killed {cut}"))  # type: ignore[misc]
            num_cut += _cut(hosts, killed, run)
        seen.append(f"storage and link away for {_CUT_SECONDS:.0f} s each time, {num_cut} steps meanwhile")
        followers["logs --follow, killed and begun again"] = hosts.start_espalier(
            "logs", str(run), "--follow", log="logs --follow, killed and begun again"
        )
        for name, process in followers.items():
            code = process.wait(_PATIENCE_SECONDS)
            assert code == 0, f"{name} ended with {code}: {hosts.client.output(name)[-1000:]}"
            _require_all_lines(hosts.client.output(name), name)
        seen.append(f"{NUM_STEPS * LINES_OF_A_STEP} lines once each in: {'; '.join(followers)}; each ended with 0")


def _cut(hosts: RayHosts, killed: subprocess.Popen[bytes], run: Path) -> int:
    """Cut the client's link and cover its storage for a while, and kill a follower; steps done meanwhile."""
    before = num_steps(run)
    hosts.network.cut(hosts.client)
    hosts.client.run("mount", "-t", "tmpfs", "nothing", hosts.storage).check_returncode()
    time.sleep(_CUT_SECONDS / 2)
    hosts.client.kill_started(killed)
    time.sleep(_CUT_SECONDS / 2)
    hosts.client.run("umount", "-l", hosts.storage).check_returncode()
    hosts.network.mend(hosts.client)
    return num_steps(run) - before


def _wait_for_more(run: Path) -> None:
    """Wait for some more steps, or for the last."""
    wanted = min(num_steps(run) + _MORE_STEPS, NUM_STEPS)
    wait_for(lambda: num_steps(run) >= wanted, seconds=_PATIENCE_SECONDS)


def _require_all_lines(text: str, name: str) -> None:
    numbers = [int(found) for found in _LINE.findall(text)]
    wanted = list(range(1, NUM_STEPS * LINES_OF_A_STEP + 1))
    wrong = next((place for place, pair in enumerate(zip(numbers, wanted, strict=False)) if pair[0] != pair[1]), None)
    assert numbers == wanted, f"{name}: {len(numbers)} lines of {len(wanted)}; first other one at {wrong}"
