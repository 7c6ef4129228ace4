"""The plan is shown in full in terminals of any width."""

from __future__ import annotations

import io

import pytest
import yaml
from rich.console import Console

from espalier.jobs.load import read_job
from espalier.planning.prepare import PreparedJob, prepare
from espalier_cluster.show import show_plan
from support.tiny import tiny_job, write_text

SCRATCH = {"family": "llama", "layers": 1, "hidden": 16, "heads": 2, "train_tokenizer": {"vocabulary": 300}}
TRAINED = {"budget": {"steps": 1000}, "batch": {"sequences": 4}, "optimizer": {"lr": 1e-3}}
STAGES = [
    {"name": "seedling-of-random-weights", "kind": "load", "from_scratch": SCRATCH},
    {"name": "young-0123456789", "kind": "train", "student": "seedling-of-random-weights", **TRAINED},
    {"name": "grown-0123456789", "kind": "train", "student": "young-0123456789", **TRAINED},
    {"name": "older-0123456789", "kind": "train", "student": "grown-0123456789", **TRAINED},
    {
        "name": "healed-0123456789",
        "kind": "distill",
        "student": "older-0123456789",
        "teacher": "young-0123456789",
        **TRAINED,
    },
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedJob:
    root = tmp_path_factory.mktemp("plan")
    write_text(root / "text")
    (root / "job.yaml").write_text(yaml.safe_dump(tiny_job(root, stages=STAGES)))
    return prepare(read_job(root / "job.yaml"))


@pytest.mark.parametrize("width", [80, 100, 120, 140, 200])
def test_every_stage_is_shown_with_all_its_numbers(prepared: PreparedJob, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    show_plan(console, prepared, done=["young-0123456789"])
    shown = console.file.getvalue()
    lines = [line.rstrip() for line in shown.splitlines() if "on disk below" not in line]
    assert "…" not in shown and all(len(line) <= width for line in lines)
    for preview in prepared.previews:
        assert any(line.strip().startswith(preview.stage.name) for line in lines)
        assert f"{preview.parameters:,}" in shown
    assert "young-0123456789 (done)" in shown and shown.count("1,000") == 4
    assert "memory of one worker" in shown and shown.count("peak") in (1, 4)
