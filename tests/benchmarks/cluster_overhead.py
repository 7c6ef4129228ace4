"""What a cluster costs beside doing it by hand: the start of a submitted run, steps of 20 ms, the next stage.

    python tests/benchmarks/cluster_overhead.py [--pairs 5] [--steps 200] [--without-starts]

On a real head on this machine. Three tables: seconds from the command to the run's first line, `espalier submit
--follow` beside `ray job submit -- espalier run`; seconds of steps of 20 ms on two workers, through Ray beside
torchrun; seconds from the end of a stage to the beginning of the next. Pairs are interleaved, and each goes first in
every other one; the figures are medians.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from support.ray_head import Head, ray_head
from support.tiny import tiny_job, write_job

_HERE = Path(__file__).parent
_FIRST_LINE = "[1/1] "
_LIMIT_SECONDS = 300


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--without-starts", action="store_true", help="leave out the first table")
    parser.add_argument("--steps-of", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.steps_of:
        print_steps(*asked.steps_of)
        return
    with tempfile.TemporaryDirectory(prefix="espalier-overhead-") as made:
        folder = Path(made)
        with ray_head(folder, num_cpus=4, variables={"PYTHONPATH": os.pathsep.join([str(_HERE), *sys.path])}) as head:
            if not asked.without_starts:
                tell_starts(folder, head, asked.pairs)
            tell_steps(folder, head, asked.pairs, asked.steps)


def tell_starts(folder: Path, head: Head, pairs: int) -> None:
    """Seconds to a run's first line."""
    job = str(write_job(folder, stages=tiny_job(folder)["stages"][:1]))
    espalier = [sys.executable, "-m", "espalier_cluster"]

    def submit(place: Path) -> float:
        asked = [*espalier, "submit", job, f"storage={place}", "--address", head.url, "--follow"]
        return _seconds_to_first_line(asked, head)

    def by_hand(place: Path) -> float:
        ray = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", head.url, "--"]
        return _seconds_to_first_line([*ray, *espalier, "run", job, f"storage={place}", "--address", "auto"], head)

    _compare("submit to first line", folder, pairs, {"espalier submit": submit, "ray job submit": by_hand})


def tell_steps(folder: Path, head: Head, pairs: int, steps: int) -> None:
    """Seconds of steps, and those between stages."""
    gaps: list[float] = []

    def through_ray(place: Path) -> float:
        asked = [sys.executable, __file__, "--steps-of", head.address, str(place), str(steps)]
        *between, seconds = map(float, _output(asked, head).splitlines()[-1].split())
        gaps.extend(between)
        return seconds

    def with_torchrun(place: Path) -> float:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        return float(_output([*torchrun, str(_HERE / "twenty_ms_steps.py"), str(place), str(steps)], head).split()[-1])

    _compare(f"{steps} steps of 20 ms", folder, pairs, {"through Ray": through_ray, "torchrun": with_torchrun})
    print(f"from stage to stage: {statistics.median(gaps):.3f} s, at most {max(gaps):.3f} s of {len(gaps)}")


def print_steps(address: str, folder: str, steps: str) -> None:
    """In a process of its own: seconds between stages, then those of the last stage's steps."""
    from twenty_ms_steps import with_ray

    from espalier.jobs.job import WorkersConfig
    from espalier_cluster.group_size import GroupSize
    from espalier_cluster.local_cluster import cluster
    from espalier_cluster.log_filter import filter_logs

    workers = WorkersConfig(count=2)
    with filter_logs(), cluster(workers, address=address):
        stages = with_ray(Path(folder), GroupSize(workers), int(steps))
    gaps = [after["began"] - before["ended"] for before, after in itertools.pairwise(stages)]
    print(*gaps, stages[-1]["seconds"])


def _compare(title: str, folder: Path, pairs: int, ways: dict[str, Callable[[Path], float]]) -> None:
    found: dict[str, list[float]] = {way: [] for way in ways}
    for pair in range(pairs):
        for way in sorted(ways, reverse=bool(pair % 2)):
            place = Path(tempfile.mkdtemp(dir=folder))
            found[way].append(ways[way](place))
            print(f"  {title}, {way}: {found[way][-1]:.2f} s", flush=True)
    ours, theirs = (statistics.median(found[way]) for way in ways)
    spread = max(max(found[way]) / min(found[way]) for way in ways)
    print(f"{title}: {' beside '.join(ways)}: {ours:.2f} beside {theirs:.2f} s, {ours / theirs:.3f} times", end="")
    print(f" (largest of a way up to {spread:.2f} times its smallest)", flush=True)


def _seconds_to_first_line(command: list[str], head: Head) -> float:
    """From starting the command to the run's first line; waits for the end of the run."""
    began, found, told = time.monotonic(), None, []
    with subprocess.Popen(
        command, env=head.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line)
            if found is None and _FIRST_LINE in line:
                found = time.monotonic() - began
    if found is None or process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {''.join(told)[-2000:]}")
    return found


def _output(command: list[str], head: Head) -> str:
    told = subprocess.run(
        command, env=head.environment, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    if told.returncode:
        raise RuntimeError(f"{' '.join(command)}: {told.stdout[-1000:]} {told.stderr[-2000:]}")
    return told.stdout


if __name__ == "__main__":
    main()
