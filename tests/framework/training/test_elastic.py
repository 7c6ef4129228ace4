"""A run goes on with another number of workers and another ZeRO level: the same samples, the same losses."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from espalier.distributed.world import World
from support.scenes import Scene, at, outcome, play, prepare_ground
from support.spawn import run_ranks

STEPS = 24
SETTINGS = {
    "budget": {"steps": STEPS},
    "checkpoint": {"every": 50},
    # without a floor under the loss, the divergence of near models is all rounding
    "losses": [{"function": "forward_kl"}, {"function": "cross_entropy", "weight": 0.1}],
}
Part = tuple[str, dict[int, list[int]]]


def first_part(world: World, root: str, settings: dict[str, Any], *, until: int) -> Part:
    prepare_ground(world, root, SETTINGS)
    return next_part(world, root, settings, attempt=1, until=until)


def next_part(world: World, root: str, settings: dict[str, Any], *, attempt: int, until: int) -> Part:
    scene = Scene(settings, at(until, _stop), attempt=attempt)
    return play(world, root, scene), scene.samples


def _part(world: World, root: str, settings: dict[str, Any], attempt: int, until: int) -> Part:
    if attempt == 1:
        return first_part(world, root, settings, until=until)
    return next_part(world, root, settings, attempt=attempt, until=until)


def _stop(rank, control, report):
    control.stop.set()
    return report


def _together(ranks: list[Part]) -> dict[int, list[int]]:
    """Step -> ids over all workers."""
    return {step: sorted(chain.from_iterable(samples[step] for _, samples in ranks)) for step in ranks[0][1]}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_one_two_workers_and_three_levels_within_one_run(tmp_path: Path) -> None:
    still, moved = str(tmp_path / "still"), str(tmp_path / "moved")
    expected = run_ranks(_part, 2, still, {"zero_level": "none"}, 1, STEPS + 1)
    parts = [
        run_ranks(_part, 2, moved, {"zero_level": "none"}, 1, 2),
        run_ranks(_part, 1, moved, {"zero_level": "parameters"}, 2, 13),
        run_ranks(_part, 2, moved, {"zero_level": "optimizer"}, 3, STEPS + 1),
    ]
    assert [ranks[0][0].split(":")[0] for ranks in parts] == ["stopped", "stopped", "done"]
    assert parts[1][0][1].keys() == set(range(3, 14)), "it went on where it was"
    seen = {step: ids for ranks in parts for step, ids in _together(ranks).items()}
    assert seen == _together(expected)
    there, here = outcome(still)["steps"], outcome(moved)["steps"]
    assert list(here) == list(there) == list(range(1, STEPS + 1))
    for step in there:
        assert here[step][0] == pytest.approx(there[step][0], rel=1e-5)
