"""A disk that fails while a stage saves: what passes is tried again, the rest stops the run."""

from __future__ import annotations

import errno
from pathlib import Path

from espalier.distributed.world import World
from support.scenes import Scene, fresh, outcome, play, prepare_ground
from support.spawn import run_ranks

_SETTINGS = {"budget": {"steps": 12}, "checkpoint": {"every": 4, "keep_latest": 3}, "zero_level": "gradients"}
_ERRORS = {"EIO": errno.EIO, "EROFS": errno.EROFS, "EACCES": errno.EACCES, "EDQUOT": errno.EDQUOT}


class Failing:
    """The disk of worker 1 says no to the first file of step 8's checkpoint, `times` times."""

    def __init__(self, number: int, times: int) -> None:
        self._error, self._left = number, times

    def __call__(self, path: str, rank: int) -> None:
        if rank == 1 and "step-00000008" in path and self._left:
            self._left -= 1
            raise OSError(self._error, errno.errorcode[self._error])


def disk_says_no(folder: Path) -> str:
    """EIO once passes; what does not pass stops the run with its name, and the same order goes on afterwards."""
    return run_ranks(_play_all, 2, str(folder))[0]


def _play_all(world: World, root: str) -> str:
    ground = str(Path(root, "ground"))
    prepare_ground(world, ground, _SETTINGS)
    seen = []
    for name, number in _ERRORS.items():
        place = fresh(world, ground, str(Path(root, name)))
        end = play(world, place, Scene(on_write=Failing(number, times=1)))
        world.barrier()
        passes = number == errno.EIO
        kept = [4, 8, 12] if passes else [4]
        assert outcome(place)["checkpoints"] == kept, (name, outcome(place)["checkpoints"])
        assert end == "done" if passes else end.startswith("storage: ") and name in end, (name, end)
        if not passes:
            again = play(world, place, Scene(attempt=2))
            world.barrier()
            assert (again, outcome(place)["checkpoints"]) == ("done", [4, 8, 12]), (name, again)
        seen.append(f"{name}: {end.split(':')[0]}")
    return ", ".join(seen)
