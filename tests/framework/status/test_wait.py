"""Waiting for the end of a run: by this host's clock, across moments in which its storage is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import beat, made_run

from espalier.stages.run_folder import RunFolder
from espalier.status import standing
from espalier.status.wait import Waiting, wait


class Clock:
    """Time that passes only while somebody sleeps, in which `on_sleep` may change the run."""

    def __init__(self, on_sleep: Callable[[float], None] = lambda now: None) -> None:
        self.now, self.num_sleeps = 0.0, 0
        self.on_sleep = on_sleep

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.num_sleeps += 1
        self.on_sleep(self.now)


def waiting(clock: Clock) -> Waiting:
    return Waiting(sleep=clock.sleep, clock=clock)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    from made_runs import NOW

    monkeypatch.setattr(standing.time, "time", lambda: NOW)


def test_it_ends_with_the_run_and_looks_seldom(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder)

    def live(now: float) -> None:
        beat(folder, exit_code=3 if now > 1000 else None, waits_for="room" if 100 < now < 200 else "")

    clock, told = Clock(live), []
    end = wait(folder, waiting=waiting(clock), on_change=lambda found: told.append(found.state))
    assert end is not None and (end.state, end.exit_code) == ("gate_failed", 3)
    assert told == ["running", "waiting", "running", "gate_failed"] and clock.num_sleeps < 220


def test_a_time_out_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder)
    clock = Clock()
    assert wait(folder, timeout_seconds=12, waiting=waiting(clock)) is None and clock.now == 12
    assert wait(folder, timeout_seconds=0, waiting=waiting(clock)) is None and clock.now == 12


def test_a_storage_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """Away in two ways, an empty mount point and no folder at all; and twice, for longer than it may be at once."""
    folder, away = made_run(tmp_path / "storage"), tmp_path / "away"
    beat(folder)

    def live(now: float) -> None:
        is_away = 20 < now % 500 < 440
        if is_away and not away.exists():
            folder.path.rename(away)
        elif is_away and now % 500 > 200 and not folder.path.exists():
            folder.path.mkdir()
        elif not is_away and away.exists():
            if folder.path.exists():
                folder.path.rmdir()
            away.rename(folder.path)
            beat(folder, exit_code=0 if now > 500 else None)

    end = wait(folder, waiting=waiting(Clock(live)))
    assert end is not None and end.exit_code == 0


def test_a_storage_that_stays_away_ends_it(tmp_path: Path) -> None:
    folder, clock = RunFolder(tmp_path / "gone"), Clock()
    with pytest.raises(FileNotFoundError, match="away"):
        wait(folder, waiting=waiting(clock))
    assert 600 < clock.now < 620


def test_a_driver_whose_clock_is_wrong_is_not_lost(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=7200)

    def live(now: float) -> None:
        if now % 10 < 2:
            beat(folder, age=7200 - now, exit_code=0 if now > 90 else None)

    clock = Clock(live)
    end = wait(folder, waiting=waiting(clock))
    assert end is not None and end.exit_code == 0 and clock.now > 90


def test_a_lost_run_ends_it_after_a_watch(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=7200)
    clock = Clock()
    end = wait(folder, waiting=waiting(clock))
    assert end is not None and (end.state, end.exit_code) == ("lost", 75) and clock.now < 30


def test_waiting_costs_next_to_no_processor_time(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder)
    before = time.process_time()
    assert wait(folder, timeout_seconds=1.0) is None
    assert time.process_time() - before < 0.2
