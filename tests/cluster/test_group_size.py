"""How many workers the next group gets, from what fits on the cluster."""

import threading
import time

import pytest

from espalier.jobs.job import WorkersConfig
from espalier_cluster.group_size import GroupSize

WORKERS = WorkersConfig(count=8, min=2)


def size_with(*free: int, settle_seconds: float = 0.0, stop: threading.Event | None = None) -> GroupSize:
    """With answers of the cluster; the last one is given again and again."""
    answers = list(free)
    told = {"free": lambda workers: answers.pop(0) if len(answers) > 1 else answers[0]}
    return GroupSize(WORKERS, (2, 4, 8), settle_seconds=settle_seconds, stop=stop, **told)


@pytest.mark.parametrize(("free", "chosen"), [(9, 8), (8, 8), (7, 4), (3, 2), (2, 2), (1, 2), (0, 2)])
def test_the_largest_number_that_fits_is_chosen_and_at_least_the_smallest_allowed(free: int, chosen: int) -> None:
    assert size_with(free).choose() == chosen


def test_room_that_comes_within_the_time_to_settle_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier_cluster.group_size._LOOK_SECONDS", 0.01)
    assert size_with(3, 5, 8, settle_seconds=60).choose() == 8


def test_nobody_waits_for_room_once_the_run_is_asked_to_stop() -> None:
    stop, began = threading.Event(), time.monotonic()
    stop.set()
    assert size_with(5, settle_seconds=60, stop=stop).choose() == 4
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("have", "free", "larger"),
    [(2, 0, None), (2, 1, None), (2, 2, 4), (4, 3, None), (4, 4, 8), (2, 6, 8), (8, 9, None)],
)
def test_a_larger_number_is_one_that_fits_beside_the_group_that_leaves(
    have: int, free: int, larger: int | None
) -> None:
    assert size_with(free).larger(have) == larger


def test_without_a_minimum_the_cluster_is_not_asked() -> None:
    def asked(workers: WorkersConfig) -> int:
        raise AssertionError("the cluster was asked")

    size = GroupSize(WorkersConfig(count=3), free=asked)
    assert size.choose() == 3 and size.larger(3) is None and not size.is_elastic
