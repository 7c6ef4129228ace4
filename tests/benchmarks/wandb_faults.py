"""Steps per second of a run that is shown in W&B, beside a server that fails and a healthy one, pair by pair.

    python tests/benchmarks/wandb_faults.py [--pairs 5] [--steps 300] [--faults 401 500 ...]

A step is what a driver in one process with its worker sees: work of about 20 ms, half of it on the processor, then a
line in the record. The mirror follows the record in a thread of the same process, as in `espalier run --in-process`;
with Ray it is another process than the workers, and costs them less. Each arm is a process of its own, and both of a
pair run at the same time, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.wandb_server import KEY, Trouble, wandb_server

FAULTS = {
    "401": Trouble(401, at="file_stream"),
    "429": Trouble(429),
    "500": Trouble(500),
    "30 s late": Trouble(200, seconds=30.0),
    "nothing": Trouble(200, seconds=600.0),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--pairs", type=int, default=5)
    asked.add_argument("--steps", type=int, default=300)
    asked.add_argument("--faults", nargs="*", choices=FAULTS, default=[*FAULTS])
    asked.add_argument("--arm", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.arm:
        print(json.dumps(measure(Path(given.arm), given.steps)))
        return
    print(
        f"{'fault':>10}  {'healthy':>14}  {'faulty':>14}  ratio of each pair: median (least to most)   sent afterwards"
    )
    for name in given.faults:
        trouble = FAULTS[name]
        pairs, complete = [], True
        for _ in range(given.pairs):
            with ThreadPoolExecutor(2) as both:
                (healthy, first), (faulty, second) = both.map(lambda one: arm(one, given.steps), [None, trouble])
            pairs.append((healthy, faulty))
            complete &= first and second
        ratios = [faulty / healthy for healthy, faulty in pairs]
        sides = (f"{statistics.median(side):6.2f} steps/s" for side in zip(*pairs, strict=True))
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(
            f"{name:>10}  {'  '.join(sides)}  {spread:<43}  {'each step once' if complete else 'NOT ALL'}",
            flush=True,
        )


def arm(trouble: Trouble | None, num_steps: int) -> tuple[float, bool]:
    """Steps/s beside a server, and whether it has each step once after a later start when it is well again."""
    with wandb_server() as server, tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        process = subprocess.Popen(
            [sys.executable, __file__, "--arm", folder, "--steps", str(num_steps)],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()  # the run has begun in W&B
        server.trouble = trouble
        measured = json.loads(process.stdout.readline())
        process.wait()
        server.trouble = None
        again = [sys.executable, __file__, "--arm", folder, "--steps", "0"]
        subprocess.run(again, env=environment, stdout=subprocess.DEVNULL, check=True)
        (run,) = server.runs.values()
        return measured["speed"], [row["trainer/step"] for row in run.history] == list(range(1, num_steps + 1))


def measure(folder: Path, num_steps: int) -> dict[str, float]:
    """One start of a driver, with so many steps."""
    from espalier.tracking import wandb_session
    from espalier.tracking.events import EVENTS, EventLog
    from espalier.tracking.follow import Follower
    from espalier.tracking.mirror import Access, Mirror
    from espalier.tracking.record import STEPS, StepLog
    from espalier.tracking.wandb_settings import WANDB
    from framework.tracking.samples import job, run_folder, step

    wandb_session._CONNECT_SECONDS = 5.0  # that an outage at the end is not waited out for a minute
    if not (folder / "run.json").exists():
        run_folder(folder)
    asked, events = job(mode="online"), EventLog(folder / EVENTS)
    access = Access({"WANDB_API_KEY": KEY})
    mirror = Mirror.open(folder, asked, events, kind=WANDB, settings=asked.tracking.wandb, access=access)
    print("begun", flush=True)
    done, follower, log = threading.Event(), Follower(folder), StepLog(folder / STEPS)

    def follow() -> None:
        while not done.wait(0.5):
            mirror.receive(follower.poll())
        mirror.receive(follower.poll())
        mirror.close()

    thread = threading.Thread(target=follow)
    thread.start()
    began = time.perf_counter()
    for number in range(1, num_steps + 1):
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass
        time.sleep(0.01)
        log.append(step(number))
    seconds = time.perf_counter() - began
    done.set()
    thread.join()
    return {"speed": num_steps / seconds}


if __name__ == "__main__":
    main()
