"""Variables of the environment that are set, replaced or hidden for the time of a block."""

import os
import subprocess
from pathlib import Path

import pytest

from espalier_cluster.environment import hide_secrets, override_variables, wandb_folders


def test_child_processes_do_not_inherit_a_hidden_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with hide_secrets(["WANDB_API_KEY"]) as found:
        printed = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
        assert found == {"WANDB_API_KEY": "k" * 40} and "k" * 40 not in printed
    assert os.environ["WANDB_API_KEY"] == "k" * 40
    monkeypatch.delenv("WANDB_API_KEY")
    with hide_secrets(["WANDB_API_KEY"]) as found:
        assert found == {}
    assert "WANDB_API_KEY" not in os.environ


def test_wandb_writes_into_the_run_when_the_home_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wandb_folders(tmp_path) == {}
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    folders = wandb_folders(tmp_path)
    assert len(folders) == 3 and all(Path(one).is_relative_to(tmp_path / "wandb") for one in folders.values())


def test_overridden_variables_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    with override_variables({"SET": None, "UNSET": "2"}):
        assert "SET" not in os.environ and os.environ["UNSET"] == "2"
    assert os.environ["SET"] == "1" and "UNSET" not in os.environ
