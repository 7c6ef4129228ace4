"""The commands status, list and wait: exit codes, filters, the shape of their JSON, safe text, completion."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from espalier.config.faults import RefusedInput
from espalier.status.standing import STATES
from espalier_cluster.command import app
from espalier_cluster.show_status import _STYLES
from framework.status import made_runs
from framework.status.made_runs import beat, made_run


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_runs, "NOW", time.time())


def espalier(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)], prog_name="espalier")


def test_a_run_in_words(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, stage="heal", attempt=2, waits_for="room:\x1b[2J run big holds 8 GPUs")
    shown = espalier("status", "slim", "--storage", tmp_path)
    first, *lines = shown.output.splitlines()
    assert shown.exit_code == 0 and first == "slim: waiting for room: [2J run big holds 8 GPUs"
    assert any(line.startswith("  stage       2 of 3, heal (distill)") for line in lines)
    assert lines[-1] == f"  next        espalier stop {tmp_path}/slim"


def test_a_run_as_json(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=500, exit_code=3, reason="nll 3 > 2")
    found = json.loads(espalier("status", folder.path, "--json").output)
    assert list(found) == [
        *("schema_version", "name", "folder", "state", "exit_code", "reason", "waits_for", "last_sign", "submission"),
        *("stage", "checkpoint", "num_attempts", "num_failures", "num_preemptions", "attempts", "hosts", "seeds"),
        *("links", "goodput", "next_step", "notes"),
    ]
    assert (found["schema_version"], found["state"], found["exit_code"]) == (1, "gate_failed", 3)
    assert list(found["stage"]) == [
        *("name", "kind", "number", "num_stages", "num_done", "step", "num_steps", "loss", "tokens_per_second"),
        *("step_age_seconds", "remaining_seconds", "run_remaining_seconds", "activity", "time_state"),
    ]


def test_no_such_run_is_refused() -> None:
    assert isinstance(espalier("status", "slim").exception, RefusedInput)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 75])
def test_waiting_ends_with_the_exit_code_of_the_run(tmp_path: Path, code: int) -> None:
    beat(made_run(tmp_path), exit_code=code, reason="so it was")
    assert espalier("wait", tmp_path / "slim").exit_code == code
    assert json.loads(espalier("wait", tmp_path / "slim", "--json").output)["exit_code"] == code


def test_waiting_times_out_with_a_code_of_its_own(tmp_path: Path) -> None:
    beat(made_run(tmp_path))
    ended = espalier("wait", "slim", "--storage", tmp_path, "--timeout", "0.1")
    assert (ended.exit_code, ended.output) == (124, "running\n")


def test_runs_are_listed_by_state_and_time(tmp_path: Path) -> None:
    beat(made_run(tmp_path, "new"))
    beat(made_run(tmp_path, "done"), age=7200, exit_code=0)
    beat(made_run(tmp_path, "stopped"), age=9000, exit_code=75)
    (tmp_path / "photos").mkdir()

    def names(*filters: str) -> list[str]:
        return [line["name"] for line in json.loads(espalier("list", tmp_path, "--json", *filters).output)["runs"]]

    assert names() == ["new", "done", "stopped"]
    assert names("--state", "running", "--state", "stopped") == ["new", "stopped"]
    assert names("--since", "2.1h") == ["new", "done"] and names("--since", "2999-01-31") == []
    assert json.loads(espalier("list", tmp_path, "--json").output)["not_runs"] == ["photos"]
    shown = espalier("list", tmp_path).output
    assert "no runs are in: photos" in shown and shown.index("new") < shown.index("done")


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [("--state", "runing", "Did you mean `running`?"), ("--since", "yesterday", "a time span")],
)
def test_a_filter_that_means_nothing_is_refused(tmp_path: Path, option: str, value: str, remedy: str) -> None:
    refused = espalier("list", tmp_path, option, value).exception
    assert isinstance(refused, RefusedInput) and remedy in str(refused)
    assert isinstance(espalier("list", tmp_path / "nowhere").exception, RefusedInput)


def test_every_state_can_be_shown() -> None:
    assert set(_STYLES) == set(STATES)


def test_shells_complete_runs_and_states(tmp_path: Path) -> None:
    made_run(tmp_path)
    environment = {"_ESPALIER_COMPLETE": "complete_bash", "ESPALIER_STORAGE": str(tmp_path)}

    def completed(words: str) -> list[str]:
        typed = environment | {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        return CliRunner().invoke(app, prog_name="espalier", env=typed).output.split()

    assert completed("espalier status sl") == ["slim"]
    assert completed("espalier list --state stop") == ["stopping", "stopped"]


@pytest.mark.parametrize("name", ["status", "list", "wait"])
def test_help_has_exit_codes_and_an_example(name: str) -> None:
    shown = espalier(name, "--help").output
    assert "Exit codes:" in shown and "Example: espalier" in shown
