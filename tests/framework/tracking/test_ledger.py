import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.tracking.ledger import Ledger, account
from espalier.tracking.marks import TIME, Mark, TimeLog, end_killed_driver, read_marks
from espalier.tracking.record import STEPS, StepLog
from framework.tracking.samples import STEP

STATES = ("waiting", "working", "saving", "restarting", "hanging", "stopped")

random_marks = st.lists(
    st.builds(
        Mark,
        time=st.floats(1.7e9, 1.7e9 + 1e6),
        state=st.sampled_from(STATES),
        stage=st.sampled_from(["pruned", "healed"]),
        step=st.integers(0, 5),
    ),
    max_size=40,
).map(lambda marks: sorted(marks, key=lambda mark: mark.time))


def timeline(*marks):
    """(second, state, step) or (second, state, step, stage), as marks."""
    return [Mark(second, state, stage[0] if stage else "healed", step) for second, state, step, *stage in marks]


@settings(deadline=None)
@given(random_marks, st.floats(1.7e9 - 10, 2e9))
def test_every_second_of_the_drivers_starts_is_in_one_place(marks, now):
    ledger = account(marks, now=now)
    assert ledger.wall == pytest.approx(sum(open_seconds(marks, now)), abs=1e-3)
    assert all(getattr(ledger, name) >= 0 for name in ("useful", "redone", *STATES[2:5], "waiting"))
    assert 0 <= ledger.goodput <= 1


def open_seconds(marks, now):
    """Seconds between a driver's first mark and its end, one start after another."""
    began = None
    for place, mark in enumerate(marks):
        if began is None and (place == 0 or mark.state == "waiting"):
            began = mark.time
        if mark.state == "stopped" and began is not None:
            yield mark.time - began
            began = None
    if began is not None:
        yield max(now, marks[-1].time) - began


@settings(deadline=None)
@given(random_marks, st.floats(0, 1e6))
def test_work_is_all_useful_when_nothing_interrupts_it(marks, rest):
    calm = [mark for mark in marks if mark.state in ("working", "saving")]
    forward = [Mark(one.time, one.state, one.stage, step) for step, one in enumerate(calm)]
    ledger = account(forward, now=(forward[-1].time if forward else 0) + rest)
    assert ledger.redone == 0
    assert ledger.useful + ledger.saving == pytest.approx(ledger.wall)


def test_a_calm_run():
    marks = timeline(
        (0, "waiting", 0),
        (7, "working", 0),
        (18, "saving", 5),
        (19, "working", 5),
        (32, "saving", 10),
        (34, "stopped", 0),
    )
    assert account(marks, now=1000) == Ledger(useful=11 + 13, saving=1 + 2, waiting=7)
    assert account(marks, now=1000).goodput == 24 / 34


def test_work_after_the_save_that_the_next_attempt_starts_from_is_redone():
    marks = timeline(
        (0, "waiting", 0),
        (3, "working", 0),
        (20, "saving", 5),
        (22, "working", 5),
        (39, "restarting", 0),
        (44, "waiting", 0),
        (51, "working", 5),
        (70, "stopped", 0),
    )
    ledger = account(marks, now=70)
    assert ledger == Ledger(useful=17 + 19, redone=17, saving=2, restarting=5, waiting=3 + 7)


def test_an_older_checkpoint_costs_the_work_since_it_but_its_saves_stay_saves():
    marks = timeline(
        (0, "working", 0),
        (10, "saving", 5),
        (11, "working", 5),
        (22, "saving", 10),
        (24, "working", 10),
        (37, "restarting", 0),
        (40, "working", 5),  # the checkpoint of step 10 was damaged
        (53, "stopped", 0),
    )
    assert account(marks, now=53) == Ledger(useful=10 + 13, redone=11 + 13, saving=1 + 2, restarting=3)


def test_what_a_second_attempt_reached_counts_for_the_third():
    marks = timeline(
        (0, "working", 0),
        (10, "working", 5),
        (21, "working", 10),
        (34, "restarting", 0),
        (35, "working", 5),
        (52, "working", 10),
        (71, "restarting", 0),
        (72, "working", 10),
        (95, "stopped", 0),
    )
    assert account(marks, now=95) == Ledger(useful=10 + 17 + 23, redone=11 + 13 + 19, restarting=2)


def test_an_attempt_that_left_nothing_is_redone_wholly_and_other_stages_are_not():
    marks = timeline(
        (0, "working", 0, "pruned"),
        (7, "waiting", 0, ""),
        (9, "working", 0),
        (20, "restarting", 0, ""),
        (23, "waiting", 0, ""),
        (28, "working", 0),
        (45, "stopped", 0, ""),
    )
    assert account(marks, now=45) == Ledger(useful=7 + 17, redone=11, restarting=3, waiting=2 + 5)


def test_a_hang_counts_from_the_last_progress_though_it_is_noticed_late(tmp_path):
    log = TimeLog(tmp_path / "records" / "time.jsonl")
    log.mark("working", "healed", 0, 100)
    log.mark("saving", "healed", 5, 111)
    log.mark("working", "healed", 5, 112)
    log.mark("restarting", "healed", 6, 155)
    log.mark("hanging", "healed", 6, 125)
    log.mark("working", "healed", 5, 160)
    marks = read_marks(tmp_path / "records" / "time.jsonl")
    assert [mark.state for mark in marks[3:5]] == ["hanging", "restarting"]
    assert account(marks, now=179) == Ledger(useful=11 + 19, redone=13, saving=1, hanging=30, restarting=5)


def test_a_stop_of_days_and_a_late_worker_do_not_count_and_lost_work_does():
    marks = timeline(
        (0, "working", 0),
        (10, "working", 5),
        (17, "stopped", 0),
        (19, "working", 5),
        (99_999, "waiting", 0),
        (100_002, "working", 5),
    )
    assert account(marks, now=100_013) == Ledger(useful=10 + 11, redone=7, waiting=3)


def test_a_driver_that_was_killed_lost_the_work_since_the_last_save():
    marks = timeline((0, "working", 0), (10, "working", 5), (23, "waiting", 0), (26, "working", 5), (43, "stopped", 0))
    assert account(marks, now=43) == Ledger(useful=10 + 17, redone=13, waiting=3)


def test_a_hang_that_was_none_loses_no_work_before_a_failure_or_after():
    marks = timeline((0, "working", 0), (10, "hanging", 0), (21, "working", 0))
    assert account(marks, now=34) == Ledger(useful=10 + 13, hanging=11)
    marks += timeline((34, "restarting", 0), (37, "working", 0), (54, "hanging", 0), (59, "working", 0))
    assert account(marks, now=82) == Ledger(useful=17 + 23, redone=10 + 13, hanging=11 + 5, restarting=3)


def test_no_marks_is_no_time():
    assert account([], now=1.7e9) == Ledger()
    assert Ledger().goodput == 0 and Ledger().wall == 0


def test_a_mark_without_a_time_is_of_now_and_a_cut_off_line_is_none(tmp_path, monkeypatch):
    path = tmp_path / "records" / "time.jsonl"
    monkeypatch.setattr("espalier.tracking.marks.clock.time", lambda: 137.0)
    TimeLog(path).mark("waiting")
    with path.open("ab") as file:
        file.write(b'{"time": 13')
    TimeLog(path).mark("working", "healed", 3)
    assert read_marks(path) == [Mark(137.0, "waiting"), Mark(137.0, "working", "healed", 3)]
    assert math.isclose(account(read_marks(path), now=140.0).useful, 3.0)


def test_no_file_is_no_marks(tmp_path):
    assert read_marks(tmp_path / "time.jsonl") == []


def test_the_days_after_a_driver_was_killed_do_not_count(tmp_path):
    end_killed_driver(tmp_path)
    assert not (tmp_path / TIME).exists()
    log = TimeLog(tmp_path / TIME)
    log.mark("waiting", time=STEP.time - 30)
    log.mark("working", STEP.stage, 0, STEP.time - 17)
    StepLog(tmp_path / STEPS).append(STEP)
    for _ in range(2):  # the second time there is nothing to end
        end_killed_driver(tmp_path)
    assert read_marks(tmp_path / TIME)[2:] == [Mark(STEP.time, "stopped")]
    log.mark("waiting", time=STEP.time + 99_999)
    log.mark("working", STEP.stage, 0, STEP.time + 100_002)
    assert account(read_marks(tmp_path / TIME), now=STEP.time + 100_007) == Ledger(useful=5, redone=17, waiting=13 + 3)
