"""The command itself: its version, its help, running it as a module, shell completion."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from espalier import __version__
from espalier.config.faults import RefusedInput
from espalier_cluster import command
from espalier_cluster.command import app


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"espalier {__version__}\n"


@pytest.mark.parametrize("module", ["espalier", "espalier_cluster", "espalier_cluster.command"])
def test_it_is_a_module_too(module: str) -> None:
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    asked = [sys.executable, "-m", module, "--version"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, env=environment)
    assert told.stdout == f"espalier {__version__}\n"


def test_shells_complete_commands_and_topics() -> None:
    environment = {"_ESPALIER_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "espalier check"}
    assert CliRunner().invoke(app, prog_name="espalier", env=environment).output.split() == ["checkpoint"]
    environment |= {"COMP_WORDS": "espalier explain dis", "COMP_CWORD": "2"}
    assert CliRunner().invoke(app, prog_name="espalier", env=environment).output.split() == ["distill"]


def test_settings_are_explained() -> None:
    topics = CliRunner().invoke(app, ["explain"]).output
    assert "distill\n    Train the student to follow a frozen teacher.\n" in topics
    distill = CliRunner().invoke(app, ["explain", "distill"]).output
    assert "optimizer.lr (required)  a number at least 1e-10 and at most 10\n" in distill
    said = CliRunner().invoke(app, ["explain", "distil"]).exception
    assert isinstance(said, RefusedInput) and "Did you mean `distill`?" in str(said)


def test_a_bug_prints_its_traceback_without_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise ValueError("\x1b[2J[/red]")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as end:
        command.main()
    told = capsys.readouterr().err
    assert end.value.code == 1 and "Traceback" in told and "ValueError" in told
    assert "[/red]" in told and "\x1b" not in told


def test_rays_messages_are_filtered_before_ray_is_imported() -> None:
    """Ray reads the expression when it is imported, which the look at the cluster's address does."""
    code = (
        "import os, sys, espalier_cluster.local_cluster as local; from espalier_cluster import command, drive\n"
        "def look(address, insecure): sys.exit(int('ray' in sys.modules or 'Raylet' not in os.environ["
        "'RAY_DEDUP_LOGS_SKIP_REGEX']))\n"
        "local.require_access, command._read_job = look, lambda *_: None\n"
        "command._run(None, None, drive.HowToRun(address='auto'), None)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
