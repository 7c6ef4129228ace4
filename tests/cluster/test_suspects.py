"""`espalier suspects`: find, look, fix, on a run; what has no suspects is refused in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier_cluster.command import app
from framework.audit.tables import read_table
from support.labelled import labelled_job, write_labelled_job
from support.whole_run import run_here

RUN = Path("runs", "tiny")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of fold models and a corrected model, one step each."""
    root = tmp_path_factory.mktemp("suspects")
    stages = [one for one in labelled_job(root)["stages"] if one["name"] in ("parent", "twins", "corrected")]
    stages[1] |= {"folds": 2, "budget": {"steps": 1}}
    stages[2] |= {"budget": {"epochs": 1}}
    run_here(write_labelled_job(root, stages=stages))
    return root


def asked(*words: Any) -> Result:
    return CliRunner().invoke(app, ["suspects", *map(str, words)])


def refusal(*words: Any) -> str:
    result = asked(*words)
    assert isinstance(result.exception, RefusedInput), result.output
    (fault,) = result.exception.faults
    return str(fault)


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """The run's folder, to be changed."""
    return Path(shutil.copytree(root / RUN, tmp_path / "tiny"))


def test_suspects_are_shown_with_answers_and_reasons(root: Path) -> None:
    shown = asked(root / RUN, "--top", 3).stdout
    assert shown.count("fold models that never saw this label answer") == 3
    assert shown.count("student `") == 3 and "45 labels are doubted" in shown
    assert "student `" not in asked(root / RUN, "--top", 3, "--stage", "twins").stdout


def test_find_look_and_fix_are_three_commands(root: Path, tmp_path: Path) -> None:
    fixes, corrected = tmp_path / "fixes.csv", tmp_path / "corrected.csv"
    assert asked(root / RUN, "--top", 4, "--out", fixes).exit_code == 0
    rows = read_table(fixes, "csv")
    assert len(rows) == 4 and {row["decision"] for row in rows} == {""}
    lines = fixes.read_text().splitlines()
    other = {"good": "bad", "bad": "good"}[rows[0]["given"]]
    fixes.write_text("\n".join([lines[0], lines[1] + other, lines[2] + "drop", *lines[3:]]) + "\n")
    done = asked(root / RUN, "--apply", fixes, "--out", corrected)
    assert done.exit_code == 0 and "labels changed: 1, rows dropped: 1, left as they are: 2" in done.stderr
    before = {row["id"]: row for row in read_table(root / "samples.csv", "csv")}
    after = {row["id"]: row for row in read_table(corrected, "csv")}
    assert before.keys() - after.keys() == {rows[1]["id"]}
    assert [name for name in after if after[name] != before[name]] == [rows[0]["id"]]
    assert after[rows[0]["id"]]["label"] == other
    (command,) = [line for line in done.stderr.splitlines() if "espalier run JOB" in line]
    again = prepare(read_job(root / "job.yaml", command.split("JOB ")[1].split()))
    assert again.job.name == "tiny-fixed" and again.remarks[0].startswith("data: 44 training and 15 validation samples")


def test_a_training_table_that_has_changed_is_refused(root: Path, copied: Path, tmp_path: Path) -> None:
    changed = tmp_path / "samples.csv"
    changed.write_text((root / "samples.csv").read_text().replace("good", "bad", 1))
    job = json.loads((copied / "job.json").read_text())
    job["data"]["train"]["files"] = [str(changed)]
    (copied / "job.json").write_text(json.dumps(job))
    assert refusal(copied).startswith(
        "`data` has changed since stage corrected read it; allowed: the files of this run"
    )
    changed.unlink()
    assert "`data.train.files[0]`" in refusal(copied)


def test_a_stage_that_is_not_finished_is_named(copied: Path) -> None:
    (copied / "stages" / "corrected" / "result.json").unlink()
    said = refusal(copied)
    assert "a run whose stage corrected is finished; go on with `espalier run`; or --stage twins" in said
    assert asked(copied, "--stage", "twins").exit_code == 0


def test_runs_and_stages_without_suspects_are_refused(root: Path, copied: Path) -> None:
    assert "holds no plan.json" in refusal(root)
    assert refusal(root / RUN, "--stage", "twin").endswith("one of twins, corrected. Did you mean `twins`?")
    assert "`--out` is missing" in refusal(root / RUN, "--apply", "fixes.csv")
    plan = json.loads((copied / "plan.json").read_text())
    (copied / "plan.json").write_text(json.dumps(plan[:1]))
    assert "with a `correct` or `cross_fit` stage over labelled data; this one has load" in refusal(copied)
