import pytest

from espalier.report.page import write_report
from espalier.report.run import read_run
from espalier.report.time import time_use
from espalier.tracking.goodput import Goodput
from espalier.tracking.time_log import TIME, TimeLog
from framework.report.runs import write_run
from framework.report.test_page import Page

GOODPUT = Goodput(useful=83, redone=7, saving=5, restarting=3, hanging=0, waiting=2)


def test_seconds_and_shares_add_up():
    use = time_use(GOODPUT)
    assert use.sentence == "Goodput 83 %: 1:23 min of 1:40 min."
    rows = {row[0].text: row for row in use.grid.rows}
    assert [rows[name][1].text for name in ("useful", "redone", "saving", "hanging")] == ["83.0", "7.0", "5.0", "0.0"]
    assert rows["redone"][2].text == "7 %"
    assert rows["wall time"][1].text == "100.0"
    assert sum(row[2].share or 0.0 for row in use.grid.rows) == pytest.approx(1.0)


def test_a_run_without_a_time_log_shows_nothing(tmp_path):
    assert time_use(None) is None and time_use(Goodput()) is None
    assert "Where the time went" not in write_report(write_run(tmp_path)).read_text()


def test_the_time_of_a_killed_driver_ends_with_its_last_record(tmp_path):
    write_run(tmp_path, num_steps=113)  # steps end at 1.8e9 + 113
    log = TimeLog(tmp_path / TIME)
    log.record("waiting", time=1.8e9 - 17)
    log.record("working", "healed", time=1.8e9)
    assert read_run(tmp_path).goodput == Goodput(useful=113, waiting=17)
    texts = Page(write_report(tmp_path).read_text()).texts
    assert "Goodput 86.9 %: 1:53 min of 2:10 min." in texts
