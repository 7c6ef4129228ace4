"""A teacher that does not fit its student is refused before anything starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from espalier.config.faults import RefusedInput
from espalier_cluster.command import app
from support.tiny import byte_tokenizer, tiny_job, write_job, write_model


def missing(folder: Path) -> None:
    pass


def without_weights(folder: Path) -> None:
    write_model(folder)
    (folder / "model.safetensors").unlink()


def other_size(folder: Path) -> None:
    write_model(folder, vocab_size=300)


def other_words(folder: Path) -> None:
    """As many tokens, but the numbers mean other ones."""
    write_model(folder)
    tokenizer = byte_tokenizer()
    text = tokenizer.backend_tokenizer.to_str()
    swapped = text.replace('"A":', '"@":').replace('"B":', '"A":').replace('"@":', '"B":')
    assert swapped != text
    (folder / "tokenizer.json").write_text(swapped)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, ["stages.stranger.model", "stranger"]),
        (without_weights, ["stages.stranger.model", "safetensors"]),
        (other_size, ["stages.heal.teacher", "vocabulary", "300"]),
        (other_words, ["stages.heal.teacher", "tokenizer", "other words"]),
    ],
)
def test_is_refused_within_seconds(tmp_path: Path, make: Callable[[Path], None], words: list[str]) -> None:
    write_job(tmp_path)
    make(tmp_path / "stranger")
    job = tiny_job(tmp_path)
    job["stages"].append({"name": "stranger", "kind": "load", "model": str(tmp_path / "stranger")})
    job["stages"][2]["teacher"] = "stranger"
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    began = time.monotonic()
    outcome = CliRunner().invoke(app, ["run", str(path)])
    assert time.monotonic() - began < 5
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    assert all(word in str(outcome.exception) for word in words), outcome.exception
    assert not (tmp_path / "runs").exists()
