import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.tracking.goodput import Goodput, measure_goodput
from espalier.tracking.record import STEPS, StepLog
from espalier.tracking.time_log import TIME, TimeEntry, TimeLog, end_killed_driver, read_time_log
from framework.tracking.samples import STEP

STATES = ("waiting", "working", "saving", "restarting", "hanging", "stopped")

random_entries = st.lists(
    st.builds(
        TimeEntry,
        time=st.floats(1.7e9, 1.7e9 + 1e6),
        state=st.sampled_from(STATES),
        stage=st.sampled_from(["pruned", "healed"]),
        step=st.integers(0, 5),
    ),
    max_size=40,
).map(lambda entries: sorted(entries, key=lambda entry: entry.time))


def timeline(*entries):
    """(second, state, step) or (second, state, step, stage), as entries."""
    return [TimeEntry(second, state, stage[0] if stage else "healed", step) for second, state, step, *stage in entries]


@settings(deadline=None)
@given(random_entries, st.floats(1.7e9 - 10, 2e9))
def test_every_second_of_a_driver_is_counted_once(entries, now):
    goodput = measure_goodput(entries, now=now)
    assert goodput.wall == pytest.approx(sum(open_seconds(entries, now)), abs=1e-3)
    assert all(getattr(goodput, name) >= 0 for name in ("useful", "redone", *STATES[2:5], "waiting"))
    assert 0 <= goodput.ratio <= 1


def open_seconds(entries, now):
    """Seconds between a driver's first entry and its end, one start after another."""
    began = None
    for place, entry in enumerate(entries):
        if began is None and (place == 0 or entry.state == "waiting"):
            began = entry.time
        if entry.state == "stopped" and began is not None:
            yield entry.time - began
            began = None
    if began is not None:
        yield max(now, entries[-1].time) - began


@settings(deadline=None)
@given(random_entries, st.floats(0, 1e6))
def test_work_is_all_useful_when_nothing_interrupts_it(entries, rest):
    calm = [entry for entry in entries if entry.state in ("working", "saving")]
    forward = [TimeEntry(one.time, one.state, one.stage, step) for step, one in enumerate(calm)]
    goodput = measure_goodput(forward, now=(forward[-1].time if forward else 0) + rest)
    assert goodput.redone == 0
    assert goodput.useful + goodput.saving == pytest.approx(goodput.wall)


def test_a_run_without_interruption():
    entries = timeline(
        (0, "waiting", 0),
        (7, "working", 0),
        (18, "saving", 5),
        (19, "working", 5),
        (32, "saving", 10),
        (34, "stopped", 0),
    )
    assert measure_goodput(entries, now=1000) == Goodput(useful=11 + 13, saving=1 + 2, waiting=7)
    assert measure_goodput(entries, now=1000).ratio == 24 / 34


def test_work_after_the_save_that_the_next_attempt_starts_from_is_redone():
    entries = timeline(
        (0, "waiting", 0),
        (3, "working", 0),
        (20, "saving", 5),
        (22, "working", 5),
        (39, "restarting", 0),
        (44, "waiting", 0),
        (51, "working", 5),
        (70, "stopped", 0),
    )
    goodput = measure_goodput(entries, now=70)
    assert goodput == Goodput(useful=17 + 19, redone=17, saving=2, restarting=5, waiting=3 + 7)


def test_work_after_an_older_checkpoint_is_redone_but_its_saves_still_count_as_saving():
    entries = timeline(
        (0, "working", 0),
        (10, "saving", 5),
        (11, "working", 5),
        (22, "saving", 10),
        (24, "working", 10),
        (37, "restarting", 0),
        (40, "working", 5),  # the checkpoint of step 10 was damaged
        (53, "stopped", 0),
    )
    assert measure_goodput(entries, now=53) == Goodput(useful=10 + 13, redone=11 + 13, saving=1 + 2, restarting=3)


def test_work_of_the_second_attempt_that_the_third_starts_from_is_useful():
    entries = timeline(
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
    assert measure_goodput(entries, now=95) == Goodput(useful=10 + 17 + 23, redone=11 + 13 + 19, restarting=2)


def test_an_attempt_without_a_checkpoint_is_redone_entirely_and_other_stages_are_not():
    entries = timeline(
        (0, "working", 0, "pruned"),
        (7, "waiting", 0, ""),
        (9, "working", 0),
        (20, "restarting", 0, ""),
        (23, "waiting", 0, ""),
        (28, "working", 0),
        (45, "stopped", 0, ""),
    )
    assert measure_goodput(entries, now=45) == Goodput(useful=7 + 17, redone=11, restarting=3, waiting=2 + 5)


def test_a_hang_counts_from_the_last_progress_though_it_is_noticed_late(tmp_path):
    log = TimeLog(tmp_path / "records" / "time.jsonl")
    log.record("working", "healed", 0, 100)
    log.record("saving", "healed", 5, 111)
    log.record("working", "healed", 5, 112)
    log.record("restarting", "healed", 6, 155)
    log.record("hanging", "healed", 6, 125)
    log.record("working", "healed", 5, 160)
    entries = read_time_log(tmp_path / "records" / "time.jsonl")
    assert [entry.state for entry in entries[3:5]] == ["hanging", "restarting"]
    assert measure_goodput(entries, now=179) == Goodput(useful=11 + 19, redone=13, saving=1, hanging=30, restarting=5)


def test_a_stop_of_days_and_a_late_worker_do_not_count_and_lost_work_does():
    entries = timeline(
        (0, "working", 0),
        (10, "working", 5),
        (17, "stopped", 0),
        (19, "working", 5),
        (99_999, "waiting", 0),
        (100_002, "working", 5),
    )
    assert measure_goodput(entries, now=100_013) == Goodput(useful=10 + 11, redone=7, waiting=3)


def test_a_driver_that_was_killed_lost_the_work_since_the_last_save():
    entries = timeline(
        (0, "working", 0), (10, "working", 5), (23, "waiting", 0), (26, "working", 5), (43, "stopped", 0)
    )
    assert measure_goodput(entries, now=43) == Goodput(useful=10 + 17, redone=13, waiting=3)


def test_a_hang_that_ended_by_itself_loses_no_work():
    entries = timeline((0, "working", 0), (10, "hanging", 0), (21, "working", 0))
    assert measure_goodput(entries, now=34) == Goodput(useful=10 + 13, hanging=11)
    entries += timeline((34, "restarting", 0), (37, "working", 0), (54, "hanging", 0), (59, "working", 0))
    assert measure_goodput(entries, now=82) == Goodput(useful=17 + 23, redone=10 + 13, hanging=11 + 5, restarting=3)


def test_an_empty_time_log_has_no_seconds():
    assert measure_goodput([], now=1.7e9) == Goodput()
    assert Goodput().ratio == 0 and Goodput().wall == 0


def test_an_entry_defaults_to_the_present_and_a_cut_off_line_is_ignored(tmp_path, monkeypatch):
    path = tmp_path / "records" / "time.jsonl"
    monkeypatch.setattr("espalier.tracking.time_log.clock.time", lambda: 137.0)
    TimeLog(path).record("waiting")
    with path.open("ab") as file:
        file.write(b'{"time": 13')
    TimeLog(path).record("working", "healed", 3)
    assert read_time_log(path) == [TimeEntry(137.0, "waiting"), TimeEntry(137.0, "working", "healed", 3)]
    assert math.isclose(measure_goodput(read_time_log(path), now=140.0).useful, 3.0)


def test_a_missing_time_log_is_empty(tmp_path):
    assert read_time_log(tmp_path / "time.jsonl") == []


def test_the_days_after_a_driver_was_killed_do_not_count(tmp_path):
    end_killed_driver(tmp_path)
    assert not (tmp_path / TIME).exists()
    log = TimeLog(tmp_path / TIME)
    log.record("waiting", time=STEP.time - 30)
    log.record("working", STEP.stage, 0, STEP.time - 17)
    StepLog(tmp_path / STEPS).append(STEP)
    for _ in range(2):  # the second time there is nothing to end
        end_killed_driver(tmp_path)
    assert read_time_log(tmp_path / TIME)[2:] == [TimeEntry(STEP.time, "stopped")]
    log.record("waiting", time=STEP.time + 99_999)
    log.record("working", STEP.stage, 0, STEP.time + 100_002)
    assert measure_goodput(read_time_log(tmp_path / TIME), now=STEP.time + 100_007) == Goodput(
        useful=5, redone=17, waiting=13 + 3
    )
