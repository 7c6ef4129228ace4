import json
import math
from dataclasses import replace

import pytest

from espalier.tracking.events import EventLog, read_events
from espalier.tracking.record import StepLog, read_steps
from framework.tracking.samples import STEP, step


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records" / "steps.jsonl"


def test_steps_come_back_as_they_were(path):
    log = StepLog(path)
    steps = [step(n) for n in range(1, 6)]
    for one in steps:
        log.append(one)
    assert read_steps(path) == steps


def test_a_loss_that_is_no_number_is_still_json_and_comes_back(path):
    log = StepLog(path)
    log.append(replace(STEP, loss=math.nan, gradient_norm=math.inf, terms={"jsd": -math.inf}))

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    back = read_steps(path)[0]
    assert math.isnan(back.loss) and back.gradient_norm == math.inf and back.terms == {"jsd": -math.inf}


def test_rewind_forgets_later_steps_of_that_stage_only(path):
    log = StepLog(path)
    first = [step(n, stage="first") for n in range(1, 6)]
    for one in [*first, *(step(n, before=5) for n in range(1, 5))]:
        log.append(one)
    log.rewind("heal", 2)
    again = [step(n, before=5, attempt=2) for n in range(3, 5)]
    for one in again:
        log.append(one)
    back = read_steps(path)
    assert back == [*first, step(1, before=5), step(2, before=5), *again]


def test_a_line_cut_off_by_a_crash_is_dropped_and_spoils_no_other(path):
    log = StepLog(path)
    log.append(step(1))
    log.append(step(2))
    path.write_bytes(path.read_bytes()[:-20])
    assert read_steps(path) == [step(1)]
    StepLog(path).append(step(2, attempt=2))
    assert read_steps(path) == [step(1), step(2, attempt=2)]


def test_no_record_yet_is_an_empty_one(path):
    assert read_steps(path) == []


def test_events_of_two_writers_are_all_there(tmp_path):
    path = tmp_path / "records" / "events.jsonl"
    worker, driver = EventLog(path), EventLog(path)
    worker.add("started", "heal")
    driver.add("mirror", "", "W&B cannot be reached")
    worker.add("finished", "heal")
    assert [event.kind for event in read_events(path)] == ["started", "mirror", "finished"]


def test_activities_within_a_second_are_dropped(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for done in range(50):
        log.add("activity", "slim", f"measuring importance {done}/50")
    assert len(read_events(path)) == 1
