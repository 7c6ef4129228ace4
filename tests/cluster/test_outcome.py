"""The exit code depends on the stages alone, not on the report or on characters in the run's path."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest
import yaml
from typer.testing import CliRunner

from espalier.tracking import events
from espalier_cluster import outcome
from espalier_cluster.command import app
from support.tiny import tiny_job, write_text

SCRATCH = {"family": "llama", "layers": 1, "hidden": 16, "heads": 2, "train_tokenizer": {"vocabulary": 300}}


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of one stage, in a folder whose name is markup."""
    root = tmp_path_factory.mktemp("outcome") / "[/red]Übung"
    write_text(root / "text")
    (root / "job.yaml").write_text(
        yaml.safe_dump(tiny_job(root, stages=[{"name": "seedling", "kind": "load", "from_scratch": SCRATCH}]))
    )
    return root / "job.yaml"


def run(job_file: Path, name: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["run", str(job_file), f"name={name}", "--in-process"])
    return done.exit_code, done.output


def test_a_path_that_looks_like_markup_is_printed_as_text(job_file: Path) -> None:
    code, shown = run(job_file, "named")
    assert (code, shown.splitlines()[-1]) == (
        0,
        f"done; the report is {job_file.parent / 'runs' / 'named' / 'report.html'}",
    )


@pytest.mark.parametrize("part", ["write_report", "show_outcome", "compare_growth", "show_time"])
def test_a_part_that_cannot_be_shown_is_reported_in_one_line(job_file: Path, part: str) -> None:
    with mock.patch.object(outcome, part, side_effect=TypeError("odd\n[/red]\x1b[2J")):
        code, shown = run(job_file, "named")
    told = [line for line in shown.splitlines() if "TypeError: odd [/red] [2J" in line]
    assert code == 0 and len(told) == 1, shown
    assert shown.splitlines()[-1].startswith("done; ")


def test_a_damaged_record_does_not_fail_the_run(job_file: Path) -> None:
    run(job_file, "touched")
    record = job_file.parent / "runs" / "touched" / "records" / "events.jsonl"
    with record.open("a") as file:
        file.write(json.dumps({"kind": 7, "stage": ["x"], "of tomorrow": 1}) + "\n")
    code, shown = run(job_file, "touched")
    assert code == 0 and shown.splitlines()[-1].startswith("done; "), shown


def test_a_measurement_gives_its_number_of_samples(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_ACTIVITY_SECONDS", 0.0)
    stages = [
        {"name": "seedling", "kind": "load", "from_scratch": SCRATCH},
        {"name": "score", "kind": "evaluate", "model": "seedling", "sequences": 6},
    ]
    path = job_file.parent / "measured.yaml"
    path.write_text(yaml.safe_dump(tiny_job(job_file.parent, stages=stages)))
    assert run(path, "measured")[0] == 0
    told = events.read_events(job_file.parent / "runs" / "measured" / events.EVENTS)
    measuring = [event.message for event in told if event.message.startswith("measuring")]
    assert measuring == ["measuring seedling: 4 of 6 sequences", "measuring seedling: 6 of 6 sequences"]
