"""Silence covers a block and no more, and gives way to what a person has set."""

import logging
import os
import subprocess
import warnings
from pathlib import Path

import pytest

from espalier_cluster.silence import overridden, secrets_kept_back, silenced, wandb_folders


def test_everything_is_as_before_afterwards() -> None:
    before = dict(os.environ), logging.getLogger("ray").level, warnings.filters[:]
    with silenced():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"
        assert not logging.getLogger("DeepSpeed").isEnabledFor(logging.WARNING)
    assert (dict(os.environ), logging.getLogger("ray").level, warnings.filters[:]) == before


def test_a_variable_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    with silenced():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_verbose_silences_nothing() -> None:
    before = dict(os.environ)
    with silenced(verbose=True):
        assert dict(os.environ) == before


def test_the_key_of_wandb_is_inherited_by_nothing_that_is_started_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with secrets_kept_back(["WANDB_API_KEY"]) as found:
        printed = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
        assert found == {"WANDB_API_KEY": "k" * 40} and "k" * 40 not in printed
    assert os.environ["WANDB_API_KEY"] == "k" * 40
    monkeypatch.delenv("WANDB_API_KEY")
    with secrets_kept_back(["WANDB_API_KEY"]) as found:
        assert found == {}
    assert "WANDB_API_KEY" not in os.environ


def test_wandb_keeps_to_the_run_where_the_home_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wandb_folders(tmp_path) == {}
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    folders = wandb_folders(tmp_path)
    assert len(folders) == 3 and all(Path(one).is_relative_to(tmp_path / "wandb") for one in folders.values())


def test_what_was_there_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    with overridden({"SET": None, "UNSET": "2"}):
        assert "SET" not in os.environ and os.environ["UNSET"] == "2"
    assert os.environ["SET"] == "1" and "UNSET" not in os.environ
