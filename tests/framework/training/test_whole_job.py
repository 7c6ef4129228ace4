"""A job from its file to an exported model: the same on one rank and two, whole and sharded, as planned."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from espalier.config.data import DataConfig
from espalier.data.packing import NO_LABEL
from espalier.data.sequences import open_sequences
from espalier.models.pretrained import PretrainedTokenizer
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job
from support.whole_run import recorded_steps, run_job

RUN = Path("runs", "tiny")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("one")
    return root, run_ranks(run_job, 1, str(write_job(root)))[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same job on two ranks with everything sharded that can be."""
    root = tmp_path_factory.mktemp("two")
    stages = tiny_job(root)["stages"]
    stages[1] |= {"zero_level": "parameters"}
    stages[2] |= {"zero_level": "parameters", "teacher_zero_level": "parameters"}
    stages[3] |= {"zero_level": "parameters"}
    return root, run_ranks(run_job, 2, str(write_job(root, stages=stages, workers={"count": 2})))[0]


def test_the_plan_was_exact(one: tuple[Path, dict[str, Any]]) -> None:
    root, results = one
    plan = {entry["name"]: entry for entry in json.loads((root / RUN / "plan.json").read_text())}
    for name in ("parent", "slim", "heal"):
        assert plan[name]["shape"]["parameters"] == results[name]["metrics"]["parameters"]
    assert plan["heal"]["steps"] == len(recorded_steps(root / RUN))
    assert plan["heal"]["flops"] == results["heal"]["cost"]["flops"]


def test_stock_transformers_measures_the_same_perplexity(one: tuple[Path, dict[str, Any]]) -> None:
    root, results = one
    export = root / RUN / "exports" / "out"
    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(export).eos_token == "<|end|>"
    job = tiny_job(root)
    data = DataConfig.model_validate(job["data"])
    sequences = open_sequences(data, "valid", tokenizer=PretrainedTokenizer(export), cache=root / "cache")
    nats, tokens = 0.0, 0
    for row in map(sequences.row, range(6)):
        for document in np.unique(row.documents):  # each alone: no mask, no positions, nothing of ours but the tokens
            inside = row.documents == document
            ids, labels = torch.from_numpy(row.input_ids[inside]), torch.from_numpy(row.labels[inside])
            with torch.no_grad():
                logits = model(ids[None]).logits[0]
            nats += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            tokens += int((labels != NO_LABEL).sum())
    reported = results["score"]["metrics"]["models"]["heal"]
    assert tokens == reported["tokens"]
    assert math.exp(nats / tokens) == pytest.approx(reported["perplexity"], rel=1e-5)


ROUNDING_NATS = 1e-7
"""What float32 leaves of a divergence of two near models: it is a difference of logarithms of about 5."""


def test_two_sharded_ranks_do_the_same(one: tuple[Path, dict[str, Any]], two: tuple[Path, dict[str, Any]]) -> None:
    for single, double in zip(recorded_steps(one[0] / RUN), recorded_steps(two[0] / RUN), strict=True):
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-5, abs=ROUNDING_NATS)
        assert double["gradient_norm"] == pytest.approx(single["gradient_norm"], rel=1e-4)
    for name in ("parent", "slim", "heal"):
        single, double = (run[1]["score"]["metrics"]["models"][name] for run in (one, two))
        assert double["perplexity"] == pytest.approx(single["perplexity"], rel=1e-5)
        assert double["tokens"] == single["tokens"]
    assert one[1]["slim"]["metrics"]["layers_removed"] == two[1]["slim"]["metrics"]["layers_removed"]


def test_distillation_reduces_the_divergence_from_the_teacher(one: tuple[Path, dict[str, Any]]) -> None:
    losses = [step["loss"] for step in recorded_steps(one[0] / RUN)]
    assert all(loss > 0 for loss in losses)
    assert one[1]["heal"]["cost"]["tokens"] == len(losses) * 8 * 32
