"""The kill table in small, and the two parts of it that could make a large one say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from faults.draws import Target, draw_targets, group
from faults.ground import KINDS, LEVELS
from faults.moments import BOUNDARY, COLUMNS, MID_STAGE, SAVE, SURGERY, Moment
from faults.outcome import differences

# Every kind of moment, on both ranks, as often as any run has it.
COUNTS = (Counter({Moment(stage, column, "call"): 7 for stage in KINDS for column in COLUMNS}),) * 2


def drawn(kills: int, seed: int) -> list[Target]:
    targets = draw_targets(dict.fromkeys(LEVELS, COUNTS), kills=kills, seed=seed)
    return [target for of_level in targets.values() for target in of_level]


def test_runs_killed_six_times_at_two_levels_come_to_the_same(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--kills", "6", "--seed", "5", "--ray", "0"]
    done = subprocess.run(
        [*command, "--levels", "none,gradients", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("6 equal") == 1, done.stdout
    assert not list((tmp_path / "rough").iterdir()), "runs that are equal are removed"


def test_kills_are_spread_over_levels_and_kinds_of_points() -> None:
    targets = drawn(200, seed=1)
    assert Counter(target.level for target in targets) == dict.fromkeys(LEVELS, 50)
    for level in LEVELS:
        columns = Counter(target.moment.column for target in targets if target.level == level)
        assert min(columns[column] for column in COLUMNS) >= 10, columns
        cells = {(target.moment.stage, target.moment.column) for target in targets if target.level == level}
        assert {("heal", MID_STAGE), ("tune", SAVE), ("slim", SURGERY), ("out", BOUNDARY)} <= cells
        assert len(cells) == 6 + 6 + 1 + 4


def test_a_seed_draws_the_same_kills_and_another_one_others() -> None:
    assert drawn(12, seed=1) == drawn(12, seed=1)
    assert drawn(12, seed=1) != drawn(12, seed=2)


def test_no_kill_is_lost_when_they_are_dealt_to_runs_in_the_order_of_the_stages() -> None:
    targets = drawn(40, seed=1)
    runs = group(targets, seed=1)
    assert Counter(target for run in runs for target in run) == Counter(targets)
    assert {len(run) for run in runs} <= {1, 2, 3}
    for run in runs:
        places = [list(KINDS).index(target.moment.stage) for target in run]
        assert places == sorted(places)


def test_what_differs_is_named_in_the_order_of_the_run() -> None:
    calm = {"heal/step": 6, "record 3/loss": 1.5, "exports/out/model.safetensors": "a"}
    rough = {"heal/step": 6, "record 3/loss": 1.5000001, "record 9/loss": 2.0}
    assert differences(calm, dict(calm)) == []
    assert differences(calm, rough) == [
        "record 3/loss: 1.5000001 instead of 1.5",
        "exports/out/model.safetensors: nothing instead of a",
        "record 9/loss: 2.0 instead of nothing",
    ]
