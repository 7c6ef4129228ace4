"""How a local run on GPUs meets, ends and comes back: seconds after its last stage, listeners, a killed worker.

    python tests/benchmarks/gpu_end.py [--levels none,gradients,parameters] [--workers 1,2]

A tiny job under `espalier run`. NCCL's threads look into the store that the ranks met through until they end, so a
store that vanished too early would hold the end of a run up; and everything that listens is to do so on loopback.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.kill import num_steps, start
from support.tiny import tiny_job, write_job


def main() -> None:
    """A row a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", default="none,gradients,parameters")
    parser.add_argument("--workers", default="1,2")
    asked = parser.parse_args()
    print(
        f"{'workers':>7}  {'level':<12}{'killed':>7}{'exit':>5}{'total s':>9}{'end s':>7}{'back s':>8}  not on loopback"
    )
    for workers in map(int, asked.workers.split(",")):
        for level in asked.levels.split(","):
            for killed in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    _row(Path(folder), workers, level, killed=killed)
    print("left in /tmp:", [path.name for path in Path("/tmp").glob("espalier-*")])


def _row(root: Path, workers: int, level: str, *, killed: bool) -> None:
    stages = tiny_job(root)["stages"]
    stages[2] |= {"zero_level": level, "budget": {"steps": 400}, "checkpoint": {"every": 50}}
    job = write_job(root, stages=stages, workers={"count": workers, "gpus_each": 1}, dtype="auto")
    run, began, back = root / "runs" / "tiny", time.time(), float("nan")
    process = start(job)
    _wait(process, lambda: num_steps(run) >= 60)
    open_ports = _outside(process)
    if killed:
        back = _kill_one(process, run)
    process.wait(timeout=240)
    ended = time.time()
    finished = [one["time"] for one in _lines(run / "records" / "events.jsonl") if one["kind"] == "finished"]
    last = ended - max(finished, default=ended)
    figures = (
        f"{workers:>7}  {level:<12}{killed!s:>7}{process.returncode:>5}{ended - began:>9.1f}{last:>7.1f}{back:>8.1f}"
    )
    print(f"{figures}  {open_ports or 'nothing'}", flush=True)
    if process.returncode:
        print((root / "output.txt").read_text()[-1500:])


def _kill_one(process: subprocess.Popen[str], run: Path) -> float:
    """kill -9 a worker; seconds until the run takes steps again."""
    workers = [one for one in _tree(process) if "TrainWorker" in " ".join(one.cmdline())]
    newest, began = max(one["attempt"] for one in _lines(run / "records" / "steps.jsonl")), time.time()
    workers[-1].send_signal(signal.SIGKILL)
    _wait(process, lambda: max(one["attempt"] for one in _lines(run / "records" / "steps.jsonl")) > newest)
    return time.time() - began


def _outside(process: subprocess.Popen[str]) -> list[str]:
    """What listens on other addresses than loopback."""
    found = set()
    for one in _tree(process):
        for socket in one.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN and not socket.laddr.ip.startswith(("127.", "::1", "::ffff:127.")):
                found.add(f"{one.name()} {socket.laddr.ip}:{socket.laddr.port}")
    return sorted(found)


def _tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children(recursive=True) if one.is_running()]


def _wait(process: subprocess.Popen[str], condition: Callable[[], bool], *, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


if __name__ == "__main__":
    main()
