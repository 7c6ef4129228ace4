import os

import pytest

from espalier.tracking.epochs import EPOCHS, EpochLog
from espalier.tracking.events import EVENTS, EventLog
from espalier.tracking.follow import Follower, News
from espalier.tracking.record import STEPS, StepLog
from framework.tracking.epochs import epoch
from framework.tracking.samples import step


@pytest.fixture
def follower(tmp_path):
    return Follower(tmp_path)


@pytest.fixture
def log(tmp_path):
    return StepLog(tmp_path / STEPS)


def test_every_step_is_returned_once(follower, log):
    assert follower.poll() == News()
    told = []
    for number in range(1, 8):
        log.append(step(number))
        if number % 3 == 0:
            told += follower.poll().steps
    told += follower.poll().steps
    assert told == [step(number) for number in range(1, 8)]
    assert follower.poll() == News()


def test_the_number_of_steps_that_a_resume_removed_is_returned(follower, log):
    for number in range(1, 6):
        log.append(step(number))
    follower.poll()
    log.rewind("heal", 3)
    for number in range(4, 8):
        log.append(step(number, attempt=2))
    news = follower.poll()
    assert news.num_forgotten_steps == 2
    assert [(one.step, one.attempt) for one in news.steps] == [(4, 2), (5, 2), (6, 2), (7, 2)]


def test_each_rewind_is_counted_against_the_steps_before_it(follower, log):
    for number in range(1, 6):
        log.append(step(number))
    follower.poll()
    for attempt, kept in ((2, 3), (3, 2)):
        log.rewind("heal", kept)
        log.append(step(kept + 1, attempt=attempt))
        assert follower.poll() == News(steps=(step(kept + 1, attempt=attempt),), num_forgotten_steps=2)


@pytest.mark.parametrize("kept", [0, 3])
def test_a_rewind_without_new_steps_is_returned(follower, log, kept):
    for number in range(1, 6):
        log.append(step(number))
    follower.poll()
    log.rewind("heal", kept)
    assert follower.poll() == News(num_forgotten_steps=5 - kept)
    log.append(step(kept + 1, attempt=2))
    assert follower.poll() == News(steps=(step(kept + 1, attempt=2),))


def test_a_rewind_is_seen_although_the_file_is_longer_than_before(tmp_path, follower, log):
    for number in range(1, 4):
        log.append(step(number))
    follower.poll()
    os.truncate(tmp_path / STEPS, 0)
    for number in range(1, 9):
        log.append(step(number, attempt=2))
    news = follower.poll()
    assert news.num_forgotten_steps == 3
    assert len(news.steps) == 8


def test_an_incomplete_line_is_returned_once_it_is_complete(tmp_path, follower, log):
    log.append(step(1))
    whole = (tmp_path / STEPS).read_bytes()
    (tmp_path / STEPS).write_bytes(whole[:30])
    assert follower.poll() == News()
    (tmp_path / STEPS).write_bytes(whole)
    assert follower.poll().steps == (step(1),)


def test_a_line_that_a_crash_cut_off_is_ignored(tmp_path, follower, log):
    log.append(step(1))
    (tmp_path / STEPS).write_bytes((tmp_path / STEPS).read_bytes() + b'{"stage": "he')
    assert follower.poll().steps == (step(1),)
    StepLog(tmp_path / STEPS).append(step(2))
    assert follower.poll() == News(steps=(step(2),))


def test_events_are_returned(tmp_path, follower):
    events = EventLog(tmp_path / EVENTS)
    events.add("started", "slim")
    assert [event.stage for event in follower.poll().events] == ["slim"]
    events.add("finished", "slim")
    assert [event.kind for event in follower.poll().events] == ["finished"]


def test_every_epoch_is_returned_once_with_the_number_that_a_resume_removed(tmp_path, follower):
    log = EpochLog(tmp_path / EPOCHS)
    told = []
    for number in range(1, 4):
        log.append(epoch(number))
        told += follower.poll().epochs
    assert told == [epoch(1), epoch(2), epoch(3)]
    log.rewind("heal", epoch(1).step)
    log.append(epoch(2, attempt=2))
    assert follower.poll() == News(epochs=(epoch(2, attempt=2),), num_forgotten_epochs=2)
    assert follower.poll() == News()


def test_an_epoch_is_never_returned_after_the_step_that_follows_it(tmp_path, follower, log, monkeypatch):
    """Both are written while the follower is about to read the steps."""
    real = follower._steps.read

    def read():
        EpochLog(tmp_path / EPOCHS).append(epoch(1))
        log.append(step(epoch(1).step + 1))
        return real()

    monkeypatch.setattr(follower._steps, "read", read)
    news = follower.poll()
    assert (len(news.steps), news.epochs) == (1, (epoch(1),))
