"""How soon a lost or stopped worker is noticed and the next new step is taken, beside Ray Train's TorchTrainer.

    python tests/benchmarks/beside_ray_train.py [--patience 120]

The same loop (two workers, gloo, steps of 50 ms, a save every ten) on a local Ray cluster of its own for each row.
Ray Train runs with max_failures=3 and espalier's environment, in which it is faster than with its own, and in three
ways: its health check as often as it comes, as often as espalier has it, and with a time limit for an answer that
suits the bound of espalier. *Noticed* is when the code that decides what to do learns of the failure; *new step* is
the first one beyond those that were taken before, so the steps since the last save are in it. Worker 1 is hit.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

INTERVAL, LIMIT = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
ROWS: dict[str, dict[str, str]] = {
    "espalier": {},
    "Ray Train, check every 2 s (as it comes)": {INTERVAL: "2"},
    "Ray Train, check every 0.25 s": {INTERVAL: "0.25"},
    "Ray Train, every 0.25 s, answer within 10 s": {INTERVAL: "0.25", LIMIT: "10"},
}
FAULTS = {"kill -9": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}
STEPS_BEFORE = 25
START_SECONDS = 120


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patience", type=float, default=120.0, help="seconds to wait for a fault to be noticed")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        play(*asked.case, patience=asked.patience)
        return
    print(f"{'':<46}{'fault':<9}{'noticed':>24}{'new step':>24}")
    for row, settings in ROWS.items():
        for fault in FAULTS:
            times = one_case(row, fault, settings, patience=asked.patience)
            cells = [f"{one:.2f} s" if one is not None else f"not within {asked.patience:.0f} s" for one in times]
            print(f"{row:<46}{fault:<9}{cells[0]:>24}{cells[1]:>24}", flush=True)


def one_case(row: str, fault: str, settings: dict[str, str], *, patience: float) -> tuple[float | None, float | None]:
    """Seconds from the fault until it is noticed, and until the next new step."""
    with tempfile.TemporaryDirectory(prefix="espalier-beside-") as folder:
        command = [sys.executable, __file__, "--patience", str(patience), "--case", row, fault, folder]
        environment = os.environ | settings | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        with Path(folder, "output.txt").open("w") as output:
            limit = START_SECONDS + 3 * patience
            subprocess.run(command, env=environment, stdout=output, stderr=output, check=False, timeout=limit)
        outcome = Path(folder, "outcome.json")
        if not outcome.exists():
            raise RuntimeError(f"{row}, {fault}: {Path(folder, 'output.txt').read_text()[-2000:]}")
        noticed, new_step = json.loads(outcome.read_text())
        return noticed, new_step


def play(row: str, fault: str, folder: str, *, patience: float) -> None:
    """One case, in a process of its own: Ray reads its settings once."""
    from espalier_cluster.local_cluster import cluster
    from espalier_cluster.log_filter import filter_logs

    with filter_logs():
        import toy_loop

        with cluster(toy_loop.WORKERS):
            hit = threading.Thread(target=_disturb, args=(Path(folder), FAULTS[fault], patience), daemon=True)
            hit.start()
            (toy_loop.with_espalier if row == "espalier" else toy_loop.with_ray_train)(folder)


def _disturb(folder: Path, fault: signal.Signals, patience: float) -> None:
    _wait_for(lambda: _highest(folder) >= STEPS_BEFORE, START_SECONDS)
    pid = int((folder / "pid-1").read_text())
    os.kill(pid, fault)
    hit_at = time.time()
    time.sleep(0.3)  # a step that was under way; no group starts so soon
    before = _highest(folder)
    noticed_at = new_step_at = None
    if _wait_for((folder / "noticed").exists, patience):
        noticed_at = float((folder / "noticed").read_text() or time.time())
        if _wait_for(lambda: _highest(folder) > before, patience):
            new_step_at = min(at for at, step in _steps(folder) if step > before)
    (folder / "outcome.json").write_text(json.dumps([at and at - hit_at for at in (noticed_at, new_step_at)]))
    (folder / "enough").touch()
    if noticed_at is None:
        os.kill(pid, signal.SIGKILL)


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _steps(folder: Path) -> list[tuple[float, int]]:
    lines = (folder / "steps").read_text().splitlines() if (folder / "steps").exists() else []
    return [(float(at), int(step)) for at, step in (line.split() for line in lines if line.count(" ") == 1)]


def _highest(folder: Path) -> int:
    return max((step for _, step in _steps(folder)), default=0)


if __name__ == "__main__":
    main()
