"""The matrix is whole, and what its rows name is there; a row that shows nothing is no row that is ok."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from espalier.stages.controller import ExitCode
from espalier.stages.failures import StageFailed
from faults import scenes_ray, work
from faults.matrix import Seen, print_table
from faults.rows import ROWS, Row
from faults.scenes_ray import RayScene

ROOT = Path(__file__).parents[2]
NAMES = [f"{kind}{n}" for kind, last in zip("PCHMST", (9, 9, 5, 2, 2, 5), strict=True) for n in range(1, last + 1)]


def test_every_row_is_there_once_and_is_shown_or_says_why_not() -> None:
    assert [row.name for row in ROWS] == NAMES
    assert all(row.tests or row.scenes or row.plays or row.left_out for row in ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row.tests], ids=lambda row: row.name)
def test_the_tests_of_a_row_are_there(row: Row) -> None:
    for test in row.tests:
        file, _, name = test.partition("::")
        found = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert any(one.startswith(name or "test_") for one in found), test


def test_the_work_knows_every_fault() -> None:
    known = set(re.findall(r'"([a-z0-9-]+)"', Path(work.__file__).read_text()))
    assert {scene.fault for row in ROWS for scene in row.scenes} <= known


def test_the_verdict_of_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise AssertionError("later than 1 s")

    good, bad, none = (Seen(row) for row in ROWS[:3])
    good.take(lambda: "noticed")
    bad.take(lambda: "noticed")
    bad.take(fails)
    assert [seen.verdict for seen in (good, bad, none)] == ["ok", "no", "not done"]
    print_table([good, bad, none])
    text = capsys.readouterr().out
    assert "NOT AssertionError: later than 1 s" in text and "1 of 3 rows ok, 1 not, 1 not done" in text


@pytest.mark.parametrize(
    ("wanted", "failures", "code", "said"),
    [
        (RayScene("x", ("hang",), says="worker 1"), [("hang", "worker 1 in step")], ExitCode.DONE, ""),
        (RayScene("x", ("hang",)), [("hang", "a")] * 2, ExitCode.DONE, "expected hang"),
        (RayScene("x", ("hang",)), [], ExitCode.DONE, "expected hang"),
        (RayScene("x"), [("hang", "a")], ExitCode.DONE, "expected no failure"),
        (RayScene("x", ("hang",)), [("error", "a")], ExitCode.DONE, "expected hang"),
        (RayScene("x", ("hang",)), [("hang", "a")], ExitCode.ERROR, "expected done"),
        (RayScene("x", ("hang",), says="worker 1"), [("hang", "worker 0")], ExitCode.DONE, "does not say"),
        (RayScene("x", ("hang",), within=0.5), [("hang", "a")], ExitCode.DONE, "later than 0.5 s"),
    ],
)
def test_a_scene_is_judged(tmp_path: Path, wanted: RayScene, failures: list, code: ExitCode, said: str) -> None:
    (tmp_path / "hit").write_text("1000")
    told = scenes_ray._Told([StageFailed(*one) for one in failures], [1000.7] * len(failures))
    if said:
        with pytest.raises(AssertionError, match=said):
            scenes_ray._judge(wanted, tmp_path / "hit", told, code)
    else:
        assert "0.70 s, then done" in scenes_ray._judge(wanted, tmp_path / "hit", told, code)
