"""Whether a run hangs or is only slow, from heartbeats on a simulated clock."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from unittest import mock

import pytest

from espalier.stages.heartbeats import LOOK_SECONDS, Control, HeartbeatTimer
from espalier_cluster.hang_detector import Hang, HangDetector

LEAST, BEAT = 10.0, LOOK_SECONDS


class Bench:
    """Simulated workers that wait for each other at the end of every step, and the detector of their hangs.

    Attributes:
        silent: ranks that send no heartbeat.
        alarms: (time, hang) of each hang that the detector reported.
        num_heartbeats: that the detector was given.
    """

    def __init__(self, num_workers: int = 2, *, least: float = LEAST) -> None:
        self.now = 1000.0
        self.alarms: list[tuple[float, Hang]] = []
        self.silent: set[int] = set()
        with self.clock():
            self.controls = [Control() for _ in range(num_workers)]
        self.least = least
        self.detector = HangDetector(num_workers, least_seconds=least)
        for rank in range(num_workers):
            self.detector.worker_started(rank, self.now)
        self.timers = [HeartbeatTimer(self.detector.schedule(rank), self.now) for rank in range(num_workers)]
        self.num_heartbeats = 0
        self.detector.begin(self.now)
        self._next_beat = self.now

    def clock(self) -> AbstractContextManager[object]:
        return mock.patch("time.monotonic", lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass; ask the detector just before each heartbeat, when its information is oldest."""
        end = self.now + seconds
        while self._next_beat <= end:
            self.now = self._next_beat
            if hang := self.detector.hang(self.now):
                self.alarms.append((self.now, hang))
            with self.clock():
                for rank, control in enumerate(self.controls):
                    if rank not in self.silent and self.timers[rank].is_due(pulse := control.pulse(), self.now):
                        self.detector.record_heartbeat(rank, pulse, self.now)
                        self.num_heartbeats += 1
            self._next_beat += BEAT
        self.now = end

    def beat(self, *phases: str) -> None:
        """Rank i begins phase i; a single phase is begun by all ranks."""
        with self.clock():
            for control, phase in zip(self.controls, phases * len(self.controls), strict=False):
                control.beat(phase)

    def step(self, *seconds: float) -> None:
        """One step: worker i computes for seconds[i], then all wait for the slowest."""
        self.wait(max(seconds))
        self.beat("step")

    def seconds_to_alarm(self, *, at_most: float) -> float:
        """Seconds until the first alarm."""
        began = self.now
        self.wait(at_most)
        assert self.alarms, f"no alarm within {at_most} s"
        return self.alarms[0][0] - began


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture(params=[LEAST, 2.0])
def large(request: pytest.FixtureRequest) -> Bench:
    """A group of which a worker sends a heartbeat every eight seconds; its bound is longer or shorter than that."""
    bench = Bench(512, least=request.param)
    train(bench, usual=0.1, steps=30)
    return bench


def train(bench: Bench, *, usual: float, steps: int = 20) -> None:
    bench.beat("step")
    for _ in range(steps):
        bench.step(usual, usual)


@pytest.mark.parametrize("usual", [0.05, 3.0])
def test_a_thousand_healthy_steps_give_no_alarm(bench: Bench, usual: float) -> None:
    draw = random.Random(7)
    for step in range(1000):
        one, other = (usual * draw.uniform(0.7, 1.4) for _ in range(2))
        if step == 0:
            bench.beat("opening")
            bench.wait(600)  # one worker compiles, the other waits for it
        elif step % 100 == 50:
            one *= 5
        elif step % 100 == 70:  # one saves for long, the other is in the collective behind it
            bench.beat("save", "step")
            bench.wait(120)
        elif step == 555:
            bench.beat("evaluation")
            bench.wait(1500)
        bench.step(one, other)
    assert bench.alarms == []


@pytest.mark.parametrize(("usual", "bound"), [(0.05, LEAST), (3.0, 30.0)])
def test_a_worker_without_heartbeats_is_found_and_named(bench: Bench, usual: float, bound: float) -> None:
    train(bench, usual=usual)
    bench.silent = {1}
    assert bound < bench.seconds_to_alarm(at_most=bound + 2) <= bound + 2 * BEAT
    _, hang = bench.alarms[0]
    assert hang.silent == (1,)
    assert hang.seconds == pytest.approx(bound, abs=2 * BEAT)
    assert "no sign of life from 1" in str(hang) and "worker 0 in step" in str(hang)


def test_a_skipped_collective_is_found_although_all_heartbeats_arrive(bench: Bench) -> None:
    train(bench, usual=0.05)
    assert bench.seconds_to_alarm(at_most=LEAST + 2) <= LEAST + 2 * BEAT
    assert bench.alarms[0][1].silent == ()


@pytest.mark.parametrize("rank", [0, 1])
def test_no_hang_while_one_worker_makes_progress(bench: Bench, rank: int) -> None:
    train(bench, usual=0.05)
    for _ in range(40):
        bench.wait(1.0)
        with bench.clock():
            bench.controls[rank].beat("step")
    assert bench.alarms == []


def test_the_bound_follows_the_latest_step_times(bench: Bench) -> None:
    train(bench, usual=4.0, steps=100)
    train(bench, usual=0.05, steps=70)
    assert bench.seconds_to_alarm(at_most=50) <= LEAST + 2 * BEAT


def test_the_usual_time_of_a_phase_is_known_after_five(bench: Bench) -> None:
    usual = []
    bench.beat("save")
    for _ in range(6):
        with bench.clock():
            usual.append(bench.controls[0].pulse().usual_seconds)
        bench.wait(2.0)
        bench.beat("save")
    assert usual == [None] * 5 + [2.0]


def test_a_phase_without_a_usual_time_may_take_half_an_hour(bench: Bench) -> None:
    bench.beat("evaluation")
    assert 1800 <= bench.seconds_to_alarm(at_most=1900) <= 1800 + 2 * BEAT


def test_heartbeats_before_an_order_do_not_count_for_it(bench: Bench) -> None:
    train(bench, usual=0.05)
    bench.wait(9.5)
    bench.detector.begin(bench.now)
    bench.now += 5
    assert bench.detector.hang(bench.now) is None


def test_a_worker_stopped_before_its_first_heartbeat_is_found(bench: Bench) -> None:
    bench.silent = {1}
    bench.detector.begin(bench.now)
    train(bench, usual=0.1)
    assert not bench.alarms
    assert bench.seconds_to_alarm(at_most=12) <= LEAST + 2 * BEAT
    assert bench.alarms[0][1].silent == (1,)


def test_a_group_whose_workers_have_not_all_started_does_not_hang() -> None:
    detector = HangDetector(2, least_seconds=LEAST)
    detector.worker_started(0, 0.0)
    detector.begin(0.0)
    assert detector.hang(10_000.0) is None


def test_a_large_group_sends_about_64_heartbeats_a_second(large: Bench) -> None:
    before = large.num_heartbeats
    train(large, usual=0.1, steps=100)
    assert 580 < large.num_heartbeats - before < 700


def test_a_hang_of_a_large_group_is_found_as_soon_as_that_of_a_small_one(large: Bench) -> None:
    assert large.seconds_to_alarm(at_most=large.least + 2) <= large.least + 2 * BEAT
    assert large.alarms[0][1].silent == ()


def test_a_stopped_worker_of_a_large_group_is_found_after_the_heartbeat_that_it_owes(large: Bench) -> None:
    large.silent = {300}
    every = large.detector.schedule(300).every_seconds
    assert every == pytest.approx(8.0)
    assert large.least < large.seconds_to_alarm(at_most=large.least + every + 2) <= large.least + every + 2 * BEAT
    assert large.alarms[0][1].silent == (300,)


@pytest.mark.parametrize("rank", [0, 300])
def test_no_hang_of_a_large_group_while_one_worker_saves_for_long(large: Bench, rank: int) -> None:
    with large.clock():
        large.controls[rank].beat("save")
    large.wait(20)
    assert large.alarms == []
    train(large, usual=0.1, steps=10)
    assert large.seconds_to_alarm(at_most=large.least + 2) <= large.least + 2 * BEAT


def test_rank_zero_and_small_groups_send_a_heartbeat_at_every_look() -> None:
    schedules = [HangDetector(32, least_seconds=LEAST).schedule(rank) for rank in range(32)]
    schedules += [HangDetector(4096, least_seconds=LEAST).schedule(0)]
    assert {one.every_seconds for one in schedules} == {BEAT}
