"""Losses past what a perplexity can be, and losses that are no numbers: measured and said, never a traceback."""

from __future__ import annotations

import json
import math
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from espalier.distributed.world import World
from espalier.report.page import write_report
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.worker.run_stage import run_stage
from espalier_cluster.show import show_outcome
from support.spawn import run_ranks
from support.tiny import write_job, write_model
from support.whole_run import plan_job


def with_value(folder: Path, value: float, *, name: str) -> Path:
    """A model that has this value in one row of a weight."""
    write_model(folder, tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    tensors[name][5] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def stages(root: Path) -> list[dict[str, Any]]:
    """Two models that can be measured, and one of which nothing can."""
    measured = {"kind": "evaluate", "sequences": 4}
    broken = with_value(root / "broken", math.nan, name="model.layers.0.mlp.down_proj.weight")
    return [
        {"name": "sound", "kind": "load", "model": str(root / "model")},
        {"name": "large", "kind": "load", "model": str(with_value(root / "large", 1e6, name="lm_head.weight"))},
        {"name": "broken", "kind": "load", "model": str(broken)},
        {"name": "score", "model": "large", "against": ["sound"], **measured, "gate": {"perplexity": {"max": 1e9}}},
        {"name": "worse", "model": "sound", "against": ["large"], **measured},
        {"name": "none", "model": "sound", "against": ["broken"], **measured},
        {"name": "slim", "kind": "prune", "student": "broken", "target": {"layers": 2}},
        {"name": "grown", "kind": "grow", "student": "broken", "target": {"layers": 4}, "operator": "random"},
        {"name": "out", "kind": "export", "model": "large", "dtype": "float32"},
    ]


def play(world: World, job: str) -> dict[str, Any]:
    """Every stage; of one that fails, its cause and message."""
    folder, names = plan_job(world, job)
    told: dict[str, Any] = {}
    for name in names:
        try:
            told[name] = run_stage(StageOrder(str(folder), name, 1), world, Control()).to_json()
        except StageFailed as failure:
            told[name] = (failure.cause, failure.message)
    return told


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("numbers")
    told = run_ranks(play, 1, str(write_job(root, stages=stages(root))))[0]
    return root / "runs" / "tiny", told


def test_a_perplexity_past_a_float_is_infinite(run: tuple[Path, dict[str, Any]]) -> None:
    folder, told = run
    metrics = told["score"]["metrics"]
    large = metrics["models"]["large"]
    assert large["nll"] > 710 and large["perplexity"] is None and metrics["perplexity_ratio"] is None
    assert metrics["models"]["sound"]["perplexity"] == pytest.approx(math.exp(metrics["models"]["sound"]["nll"]))
    assert told["score"]["status"] == "gate_failed" and "perplexity is inf" in metrics["gate"]
    assert told["worse"]["metrics"]["perplexity_ratio"] == pytest.approx(0.0, abs=1e-300)
    strict = json.loads((folder / "stages" / "score" / "result.json").read_text(), parse_constant=pytest.fail)
    assert strict["metrics"] == metrics


def test_it_is_shown_as_infinite_everywhere(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    result = RunFolder(folder).result("score")
    assert result is not None
    console = Console(file=StringIO(), width=200)
    show_outcome(console, [result])
    assert " inf " in console.file.getvalue()
    assert "inf" in write_report(folder).read_text()
    assert "| large | " in (card := (folder / "exports" / "out" / "README.md").read_text()) and "| inf |" in card


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("none", "broken: the mean loss.* nan"),
        ("slim", "importance.* broken"),
        ("grown", "broken.* nan"),
    ],
)
def test_nan_is_reported_once_with_the_model(run: tuple[Path, dict[str, Any]], stage: str, says: str) -> None:
    cause, message = run[1][stage]
    assert cause == "unstable" and not StageFailed(cause, message).may_pass(None)
    assert message.startswith(f"stage {stage}") and re.search(says, message), message
