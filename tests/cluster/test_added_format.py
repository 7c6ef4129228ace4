"""A data format and a stage kind of another package: DPO on preference pairs, without any change to our own files."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.installed import install

TESTS = Path(__file__).parents[1]
PLUGIN = TESTS / "support" / "preference_plugin"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of a job over pairs in a process in which the package is installed."""
    root, site = tmp_path_factory.mktemp("pairs"), tmp_path_factory.mktemp("site")
    format_of_pairs = {"preference": "espalier_preference.format:PREFERENCE"}
    install(site, "formats_of_preference", format_of_pairs, group="espalier.formats")
    install(site, "kinds_of_preference", {"dpo": "espalier_preference.kind:KIND"}, group="espalier.stages")
    paths = [str(site), str(PLUGIN), str(TESTS), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "160"}
    scene = [sys.executable, "-m", "support.preference_scene", str(root)]
    ran = subprocess.run(scene, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads((root / "told.json").read_text())
    return found


def test_it_stands_in_schema_help_and_job(told: dict[str, Any]) -> None:
    settings = told["schema"]["PreferenceConfig"]["properties"]
    assert settings["format"]["const"] == "preference" and "prompt" in told["schema"]["PairsConfig"]["properties"]
    assert told["schema"]["DpoStage"]["properties"]["beta"]["default"] == 0.1
    assert "format (required)  preference" in told["explain"] and "half for each answer" in told["explain"]
    assert '"format": "preference"' in told["validate"]


def test_it_is_looked_at_and_its_samples_are_planned(told: dict[str, Any]) -> None:
    shown = {stage["name"]: stage for stage in told["plan"]}
    assert shown["tuned"]["steps"] == 5 and shown["tuned"]["tokens"] == 5 * 8 * 64
    assert shown["back"]["steps"] == 2, "the number of pairs is known before anything starts"
    assert "data: 8 training and 8 validation pairs" in told["remarks"]


def test_the_loss_is_dpo_s_of_each_answer_alone(told: dict[str, Any]) -> None:
    losses = told["losses"]["calm"]
    assert losses["tuned"][0] == pytest.approx(math.log(2)), "the teacher is the loaded model"
    assert losses["tuned"] == sorted(losses["tuned"], reverse=True) and losses["tuned"][-1] < 0.3
    assert losses["back"] == pytest.approx([told["by_hand"]], rel=1e-5)


@pytest.mark.parametrize("other", ["whole", "two"])
def test_neither_microbatches_nor_workers_change_it(told: dict[str, Any], other: str) -> None:
    assert told["losses"][other]["tuned"] == pytest.approx(told["losses"]["calm"]["tuned"], rel=1e-5)


def test_a_run_that_was_stopped_ends_in_the_same_bits(told: dict[str, Any]) -> None:
    assert told["ends"] == ["done", "stopped", "done", "done", "done"]
    assert told["same_bits"]


def test_report_and_comparison_show_it(told: dict[str, Any]) -> None:
    assert "aligned" in told["report"] and "dpo" in told["report"]
    assert "pairs:tuned" in told["compare"]
    (label, unit, loss), *_ = told["curves"]
    assert (label, unit) == ("pairs:tuned", "nats per pair") and 0 < loss < math.log(2)


def test_a_stage_that_knows_no_pairs_is_refused(told: dict[str, Any]) -> None:
    assert told["refused"] == [
        "`stages.score.kind` is 'evaluate'; allowed: data of format text or labelled.",
        "`stages.scratch.from_scratch.train_tokenizer` is 'settings'; allowed: `tokenizer`, one that is there: data of "
        "format preference has no text to make one of.",
    ]
