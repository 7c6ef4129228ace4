"""What a training stage does when it is told to stop, when a figure is wrong, and when its disk is full or slow.

All scenes are played by the same two workers, once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espalier.distributed.world import World
from support.scenes import NAN, Scene, at, fresh, full_disk, outcome, play, prepare_ground, slow_disk
from support.spawn import run_ranks

SETTINGS = {"budget": {"steps": 12}, "checkpoint": {"every": 4, "keep_latest": 3}}
SPIKE = {"guard.spike_ratio": 50}


def told_to_stop(rank, control, report):
    if rank == 1:
        control.stop.set()
    return report


def told_of_preemption(rank, control, report):
    if rank == 1:
        control.preempted.set()
    return report


def loss_is_nan(rank, control, report):
    return replace(report, loss=NAN)


def gradient_is_infinite(rank, control, report):
    return replace(report, gradient_norm=float("inf"))


def loss_leaps(rank, control, report):
    return replace(report, loss=100 * report.loss)


SCENES: dict[str, list[Scene]] = {
    "calm": [Scene()],
    "in the foreground": [Scene({"checkpoint.in_background": "false"})],
    "stop": [Scene(on_step=at(6, told_to_stop)), Scene(attempt=2)],
    "preempted": [Scene(on_step=at(6, told_of_preemption)), Scene(attempt=2)],
    "nan": [Scene(on_step=at(7, loss_is_nan)), Scene(attempt=2)],
    "infinite gradient": [Scene(on_step=at(7, gradient_is_infinite)), Scene(attempt=2)],
    "nan skipped": [Scene({"guard.nan": "skip"}, at(7, loss_is_nan))],
    "nan rolled back": [Scene({"guard.nan": "roll_back"}, at(7, loss_is_nan))],
    "nan again and again": [Scene({"guard.nan": "skip", "guard.limit": 2}, lambda s, r, c, p: loss_is_nan(r, c, p))],
    "spike": [Scene({**SPIKE, "guard.spike": "skip"}, at(10, loss_leaps))],
    "spike early": [Scene({**SPIKE, "guard.spike": "skip"}, at(3, loss_leaps))],
    "full disk": [Scene(on_write=full_disk(8, rank=1)), Scene(attempt=2)],
    "full disk borne": [Scene({"checkpoint.on_failure": "go_on"}, on_write=full_disk(8, rank=1))],
    "full disk at the end": [Scene({"checkpoint.on_failure": "go_on"}, on_write=full_disk(12, rank=0))],
    "slow disk": [Scene({"checkpoint.every": 1}, on_write=slow_disk(0.3))],
}


def all_scenes(world: World, root: str) -> dict[str, tuple[list[str], dict[str, Any]]]:
    ground = str(Path(root, "ground"))
    prepare_ground(world, ground, SETTINGS)
    played = {}
    for number, (name, starts) in enumerate(SCENES.items()):
        place = fresh(world, ground, str(Path(root, f"scene-{number}")))
        ends = []
        states = []
        for start in starts:
            ends.append(play(world, place, start))
            world.barrier()
            states.append(outcome(place))
        played[name] = (ends, states)
    return played


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    ranks = run_ranks(all_scenes, 2, str(tmp_path_factory.mktemp("days")))
    for name in SCENES:  # all workers decide alike
        assert [end.split(":")[0] for end in ranks[0][name][0]] == [end.split(":")[0] for end in ranks[1][name][0]]
    return ranks[0]


def calm(played: dict[str, Any]) -> dict[str, Any]:
    return played["calm"][1][-1]


def test_a_stage_without_incidents(played) -> None:
    ends, (state,) = played["calm"]
    assert ends == ["done"]
    assert list(state["steps"]) == list(range(1, 13))
    assert state["checkpoints"] == [4, 8, 12]
    assert state["notes"] == []


def test_saving_in_the_foreground_changes_nothing(played) -> None:
    assert played["in the foreground"][1][-1] == calm(played)


@pytest.mark.parametrize(("scene", "cause"), [("stop", "stopped"), ("preempted", "preempted")])
def test_a_stop_request_to_one_worker_stops_all_at_the_end_of_the_step(played, scene: str, cause: str) -> None:
    ends, (stopped, resumed) = played[scene]
    assert ends == [f"{cause}: after step 6, which is saved", "done"]
    assert stopped["checkpoints"] == [4, 6]
    assert (resumed["steps"], resumed["hashes"]) == (calm(played)["steps"], calm(played)["hashes"])


@pytest.mark.parametrize(("scene", "what"), [("nan", "loss is nan"), ("infinite gradient", "gradient norm is inf")])
def test_nan_stops_the_run_before_it_is_saved(played, scene: str, what: str) -> None:
    ends, (stopped, resumed) = played[scene]
    assert ends[0].startswith("unstable: ") and what in ends[0]
    assert "step 7" in ends[0] and "8 samples" in ends[0]
    assert stopped["checkpoints"] == [4]
    assert (resumed["steps"], resumed["hashes"]) == (calm(played)["steps"], calm(played)["hashes"])


def test_a_skipped_step_is_left_out_and_the_others_are_taken(played) -> None:
    ends, (state,) = played["nan skipped"]
    assert ends == ["done"]
    assert list(state["steps"]) == [*range(1, 7), *range(8, 13)]
    assert {step: state["steps"][step] for step in range(1, 7)} == {s: calm(played)["steps"][s] for s in range(1, 7)}
    assert state["steps"][8] != calm(played)["steps"][8]
    assert "leaving out steps 7 to 7" in state["notes"][0]


def test_rolling_back_leaves_out_all_steps_since_the_checkpoint(played) -> None:
    ends, (state,) = played["nan rolled back"]
    assert ends == ["done"]
    assert list(state["steps"]) == [*range(1, 5), *range(8, 13)]


def test_a_stage_that_fails_again_and_again_is_stopped(played) -> None:
    ends, _ = played["nan again and again"]
    assert ends[0].startswith("unstable: ") and "guard.limit 2" in ends[0]


def test_a_spike_is_left_out_when_its_policy_says_so(played) -> None:
    ends, (state,) = played["spike"]
    assert ends == ["done"]
    assert list(state["steps"]) == [*range(1, 10), 11, 12]


def test_no_spike_is_detected_in_the_first_steps(played) -> None:
    assert list(played["spike early"][1][-1]["steps"]) == list(range(1, 13))


def test_a_full_disk_stops_the_run_and_leaves_the_last_good_checkpoint(played) -> None:
    ends, (stopped, resumed) = played["full disk"]
    assert ends[0].startswith("storage: ") and "No space left on device" in ends[0]
    assert stopped["checkpoints"] == [4]
    assert (ends[1], resumed["steps"], resumed["hashes"]) == ("done", calm(played)["steps"], calm(played)["hashes"])


def test_a_full_disk_costs_only_a_checkpoint_if_the_job_says_so(played) -> None:
    ends, (state,) = played["full disk borne"]
    assert ends == ["done"]
    assert state["checkpoints"] == [4, 12]
    assert state["hashes"] == calm(played)["hashes"]
    assert "step 8 could not be written" in state["notes"][0]


def test_the_last_checkpoint_must_succeed(played) -> None:
    ends, (state,) = played["full disk at the end"]
    assert ends[0].startswith("storage: ")
    assert state["checkpoints"] == [4, 8]


def test_a_slow_disk_makes_fewer_checkpoints_and_changes_nothing_else(played) -> None:
    ends, (state,) = played["slow disk"]
    assert ends == ["done"]
    assert any("still being written" in note for note in state["notes"])
    assert (state["steps"], state["hashes"]) == (calm(played)["steps"], calm(played)["hashes"])
