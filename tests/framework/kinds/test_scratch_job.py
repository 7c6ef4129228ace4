"""Models from nothing: a tokenizer from the text, random weights; a BERT that fills in masks, grows and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from espalier.models.model_files import read_model_files
from espalier.models.pretrained import PretrainedTokenizer
from espalier.models.scratch import train_tokenizer
from support.growing import trained
from support.spawn import run_ranks
from support.tiny import write_job
from support.whole_run import recorded_steps, run_job

RUN = Path("runs", "tiny")
_SHAPE = {"layers": 2, "hidden": 36, "heads": 3, "positions": 40, "train_tokenizer": {"vocabulary": 300}}

_LARGER = {"layers": 5, "hidden": 72, "ffn": 190}


def scratch(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "kind": "load", "from_scratch": _SHAPE | settings}


def stages(root: Path) -> list[dict[str, Any]]:
    return [
        scratch("bert", family="bert", dropout=0.1),
        trained("first", "bert", depth_sampling={"depth": 4}, budget={"steps": 12}, optimizer={"lr": 0.01}),
        {"name": "deep", "kind": "grow", "student": "first", "target": {"layers": 4}, "operator": "identity"},
        trained("second", "deep", optimizer_state="keep"),
        {"name": "score", "kind": "evaluate", "model": "second", "against": ["bert", "deep"], "masked_share": 0.3},
        {"name": "out", "kind": "export", "model": "second", "dtype": "float32"},
        scratch("gpt", family="gpt2"),
        trained("gpt_trained", "gpt"),
        scratch("llama", family="llama", tied=False, kv_heads=1),
        trained("llama_trained", "llama"),
        {"name": "llama_larger", "kind": "grow", "student": "llama_trained", "target": _LARGER},
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("scratch")
    return root, run_ranks(run_job, 1, str(write_job(root, stages=stages(root))))[0]


def test_a_bert_learns_masked_tokens_and_grows_without_a_jump_in_loss(done: tuple[Path, dict[str, Any]]) -> None:
    results = done[1]
    assert results["deep"]["metrics"]["seam"]["difference"] < 1e-4
    models = results["score"]["metrics"]["models"]
    assert models["second"]["nll"] < models["bert"]["nll"] - 0.2
    assert 0.25 < models["bert"]["tokens"] / models["bert"]["passed_tokens"] < 0.35


def test_growth_in_depth_and_width_at_once_is_checked(done: tuple[Path, dict[str, Any]]) -> None:
    check = done[1]["llama_larger"]["metrics"]["seam"]
    assert check["difference"] < 1e-4 < abs(check["jump"])


def test_each_family_learns_from_its_first_steps(done: tuple[Path, dict[str, Any]]) -> None:
    for stage in ("first", "gpt_trained", "llama_trained"):
        losses = [step["loss"] for step in recorded_steps(done[0] / RUN) if step["stage"] == stage]
        assert losses[0] == pytest.approx(torch.tensor(300.0).log().item(), rel=0.1)
        assert losses[-1] < losses[0]


def test_stock_transformers_loads_model_and_tokenizer(done: tuple[Path, dict[str, Any]]) -> None:
    export = done[0] / RUN / "exports" / "out"
    tokenizer, model = AutoTokenizer.from_pretrained(export), AutoModelForMaskedLM.from_pretrained(export)
    assert (tokenizer.eos_token, tokenizer.mask_token_id, model.config.num_hidden_layers) == ("<|end|>", 2, 4)


def test_the_same_text_makes_the_same_tokenizer(tmp_path: Path) -> None:
    texts = [f"the king number {n % 17} enters, and the lady {n % 5} speaks" for n in range(200)]
    for name in ("a", "b"):
        train_tokenizer(iter(texts), 320, tmp_path / name)
    assert len({str(read_model_files(tmp_path / name, setting="model")) for name in ("a", "b")}) == 1
    tokenizer = PretrainedTokenizer(tmp_path / "a")
    assert tokenizer.decode(tokenizer.encode(["the lady enters ünd"])[0]) == "the lady enters ünd"
    assert (tokenizer.eos_id, tokenizer.mask_id) == (0, 2) and tokenizer.vocabulary <= 320


def test_one_schedule_in_two_stages_is_one_stage_of_all_its_steps(tmp_path: Path) -> None:
    """Text, masks, dropout, depths and rate go on where the stage before stopped."""
    dials = {"depth_sampling": {"depth": 4}, "batch": {"sequences": 4, "microbatch_sequences": 2}}

    def learnt(name: str, student: str, steps: int, *part: float, **settings: Any) -> dict[str, Any]:
        schedule = {"part": {"start": part[0], "end": part[1]}} if part else {}
        optimizer = {"lr": 0.01, "schedule": "wsd", "warmup": 0.1, "decay": 0.5} | schedule
        return trained(name, student, budget={"steps": steps}, optimizer=optimizer, **dials, **settings)

    job = [
        scratch("bert", family="bert", dropout=0.1),
        learnt("whole", "bert", 10),
        learnt("begun", "bert", 4, 0.0, 0.4),
        learnt("ended", "begun", 6, 0.4, 1.0, optimizer_state="keep"),
    ]
    run_ranks(run_job, 1, str(write_job(tmp_path, stages=job)))
    steps = recorded_steps(tmp_path / RUN)
    whole, pieces = ([s for s in steps if (s["stage"] == "whole") == is_whole] for is_whole in (True, False))
    for name in ("loss", "gradient_norm", "lr", "depth"):
        assert [step[name] for step in pieces] == [step[name] for step in whole], name
