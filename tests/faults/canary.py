"""Keys in the environment of a cluster, and where they are found after runs that end well, fail, crash and hang.

    python tests/faults/canary.py

Starts a head and its clients with canary keys of W&B, the hub and a cloud, submits a run for each way to end, and looks
for the canaries and for the cluster's token in Ray's session folder, its Jobs and state APIs, the clients' output, and
everything in the storage: logs, records, states, exports, W&B's files. Prints a table; exits with 1 on a finding.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).parents[1]))

from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from support.kill import num_steps
from support.ray_head import Head, ray_head
from support.tiny import tiny_job, write_job

CANARIES = {
    "WANDB_API_KEY": "c0ffee" * 6 + "beef",
    "HF_TOKEN": "hf_" + "canaryCanary" * 3,
    "AWS_SECRET_ACCESS_KEY": "canary/aws/canary/aws/canary/aws/canary1",
}
_STATES = ("actors", "jobs", "nodes", "placement_groups", "workers", "tasks", "objects", "runtime_envs")
_SECONDS = 180.0
Disturb = Callable[[Path], None]


def main() -> int:
    """Play every way to end, look everywhere, print the table; the exit code."""
    with tempfile.TemporaryDirectory(prefix="espalier-canary-") as name:
        root = Path(name)
        with ray_head(root, num_cpus=4, variables=CANARIES) as head:
            ended = {way: _play(root / way, head, settings, disturb) for way, (settings, disturb) in _ways().items()}
            places = {"Jobs and state API": _apis(head), "Ray's session folder": _files(head.home)}
            places |= {f"{way}: storage": _files(root / way / "runs") for way in ended}
            places |= {
                f"{way}: the client": iter([("output", (root / way / "client.txt").read_bytes())]) for way in ended
            }
            sought = {**CANARIES, "the cluster's token": head.token_file.read_text()}
            found = [_look(place, files, sought) for place, files in places.items()]
        print(f"\n{'way to end':12}exit codes")
        for way, codes in ended.items():
            print(f"{way:12}{codes}")
        return int(any(found) or not _as_expected(ended))


def _ways() -> dict[str, tuple[dict[str, Any], Disturb]]:
    """Way to end -> settings of the middle stage, and what is done to the run while it trains."""
    return {
        "success": ({}, lambda run: None),
        "failure": ({"optimizer": {"lr": 10.0}, "guard": {"spike_ratio": 1.01}}, lambda run: None),
        "crash": ({}, lambda run: _signal_worker(run, signal.SIGKILL)),
        "driver": ({}, _kill_driver),
        "hang": ({}, lambda run: _signal_worker(run, signal.SIGSTOP)),
    }


def _as_expected(ended: dict[str, list[int]]) -> bool:
    codes = {"success": 0, "failure": 1, "crash": 0, "driver": 0, "hang": 0}
    return {way: ended[way][-1] for way in ended} == {way: codes[way] for way in ended}


def _play(root: Path, head: Head, settings: dict[str, Any], disturb: Disturb) -> list[int]:
    """Submit and follow a run, and resume it once where it was broken off; the clients' exit codes."""
    root.mkdir()
    stages = tiny_job(root)["stages"]
    stages[2] |= {"budget": {"steps": 150}, "checkpoint": {"every": 25}, **settings}
    tracking = {"wandb": {"project": "canary", "mode": "offline"}}
    retry = {"hang_seconds": 2}
    job = write_job(root, stages=stages, workers={"count": 2}, tracking=tracking, retry=retry)
    run = root / "runs" / "tiny"
    client = _client(root, head, "submit", str(job), "--address", head.address, "--follow")
    deadline = time.monotonic() + _SECONDS
    while client.poll() is None and num_steps(run) < 30 and time.monotonic() < deadline:
        time.sleep(0.05)
    if client.poll() is None:
        disturb(run)
    codes = [client.wait(_SECONDS)]
    if codes[0] == 75:
        codes.append(_client(root, head, "resume", str(run), "--address", head.address, "--follow").wait(_SECONDS))
    return codes


def _client(root: Path, head: Head, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "espalier_cluster", *arguments]
    with (root / "client.txt").open("ab") as output:
        return subprocess.Popen(command, env=head.environment, stdout=output, stderr=output)


def _signal_worker(run: Path, number: signal.Signals) -> None:
    """Send a signal to the newest process of rank one, which its log names."""
    started = [line for line in (run / "logs" / "worker-1.log").read_text().splitlines() if line.startswith("--- ")]
    os.kill(int(started[-1].rpartition(" ")[2]), number)


def _kill_driver(run: Path) -> None:
    submissions = Submissions(RunFolder(run))
    newest = submissions.newest()
    begun = newest and submissions.begun(newest)
    assert begun
    os.kill(begun.pid, signal.SIGKILL)


def _apis(head: Head) -> Iterator[tuple[str, bytes]]:
    """What Ray tells whoever has the token, less the token that this asks with."""
    headers = {"Authorization": f"Bearer {head.token_file.read_text()}"}
    paths = ["/api/jobs/", "/nodes?view=summary", *(f"/api/v0/{one}?detail=1&limit=10000" for one in _STATES)]
    for path in paths:
        yield path, requests.get(head.url + path, headers=headers, timeout=30).content
    for job in requests.get(f"{head.url}/api/jobs/", headers=headers, timeout=30).json():
        if job["submission_id"]:
            path = f"/api/jobs/{job['submission_id']}/logs"
            yield path, requests.get(head.url + path, headers=headers, timeout=30).content


def _files(folder: Path, pattern: str = "*") -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob(pattern)):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.read_bytes()


def _look(place: str, files: Iterator[tuple[str, bytes]], sought: dict[str, str]) -> int:
    """Print a row; the number of findings."""
    num_looked = num_bytes = num_found = 0
    for name, content in files:
        num_looked, num_bytes = num_looked + 1, num_bytes + len(content)
        for key, value in sought.items():
            if value.encode() in content:
                num_found += 1
                print(f"FOUND {key} in {place}: {name}")
    print(f"{place:28}{num_looked:6} looked at {num_bytes / 2**20:8.1f} MiB {num_found:4} findings", flush=True)
    return num_found


if __name__ == "__main__":
    sys.exit(main())
