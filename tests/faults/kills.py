"""Runs of two ranks killed at points drawn by seed, resumed, and compared bit for bit with undisturbed ones.

python tests/faults/kills.py [--kills 200] [--seed 1] [--parallel 1] [--ray 12] [--levels none,parameters] [--folder F]

A tiny job with every kind of stage runs on two processes that meet through a file, at each zero_level. At a drawn
moment one rank gets SIGKILL, the other one at once or a little later, and a new attempt goes on from what is on disk,
as the controller would have it. After one to three kills the run is finished: every exported file, the last
checkpoint and result of every stage, and the record of steps must be those of a run that nothing happened to.

    mid-stage    in a forward, in the middle of accumulating, around an update, before or after a step is recorded,
                 while a model is read or an engine filled (resuming)
    boundary     around an order, around the result of a stage, between a stage and the next
    mid-surgery  while prune measures its last, cuts, writes or commits
    mid-save     before, half-way through or after any call that changes the disk, most of them in the saving thread

With `--ray`, one job runs under `espalier run` on a local cluster, and a worker, the driver, the raylet or the whole
tree of processes is killed. Exits with 1 when any run differs. Needs Linux.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults.preload import preload  # first: it sets what libraries read on import

# isort: split
from faults import table
from faults.draws import draw_targets, group
from faults.ground import LEVELS, Ground, make_ground, make_material
from faults.play import Played, play
from faults.ray_kills import RayKills, play_ray


def main() -> int:
    """Make the kills and print the table; the exit code."""
    wanted = _arguments()
    folder = Path(wanted.folder or tempfile.mkdtemp(prefix="espalier-kills-")).resolve()
    levels = wanted.levels.split(",")
    began = time.monotonic()
    preload()
    played: list[Played] = []
    if wanted.kills:
        # The workers are forked here, from a process without threads, and fork the ranks.
        with ProcessPoolExecutor(wanted.parallel, mp_context=get_context("fork")) as pool:
            pool.submit(make_material, folder).result()
            grounds = list(pool.map(make_ground, [folder] * len(levels), levels))
            print(f"{len(grounds)} undisturbed runs after {time.monotonic() - began:.0f} s", flush=True)
            played = _play_all(pool, grounds, kills=wanted.kills, seed=wanted.seed)
        print(f"\n{table.table(played)}\n\n{table.summary(played)}")
    ray = play_ray(folder / "ray", kills=wanted.ray, seed=wanted.seed) if wanted.ray else RayKills()
    if wanted.ray:
        print(f"\n{ray}")
    print(table.faults(played), end="")
    print(f"\n{time.monotonic() - began:.0f} s; folder {folder}")
    return 1 if ray.faults or any(one.faults for one in played) else 0


def _play_all(pool: ProcessPoolExecutor, grounds: list[Ground], *, kills: int, seed: int) -> list[Played]:
    targets = draw_targets({ground.level: ground.counts for ground in grounds}, kills=kills, seed=seed)
    futures: list[Future[list[Played]]] = []
    for ground in grounds:
        for number, of_run in enumerate(group(targets[ground.level], seed=seed)):
            place = ground.folder / "rough" / f"{ground.level}-{number:03d}"
            futures.append(pool.submit(play, ground, of_run, place, in_background=number % 2 == 0))
    played: list[Played] = []
    for future in futures:
        played += future.result()
        made = sum(len(one.kills) for one in played)
        print(f"\r{made} kills of {kills} in {len(played)} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return played


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, two processes each")
    parser.add_argument("--ray", type=int, default=12, help="kills in a run on Ray")
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--folder", help="for the runs; those that differ are kept there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
