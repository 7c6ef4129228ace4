"""What models write after prompts: as much as their table of positions has room for."""

from __future__ import annotations

from pathlib import Path

from support.tiny import write_job
from support.whole_run import run_here


def test_generation_stops_at_the_last_learned_position(tmp_path: Path) -> None:
    scratch = {"family": "gpt2", "layers": 1, "hidden": 8, "heads": 2, "positions": 40}
    scratch |= {"train_tokenizer": {"vocabulary": 300}}
    prompts = ["x", "x y z, " * 5, "x y z, " * 99]
    stages = [
        {"name": "new", "kind": "load", "from_scratch": scratch},
        {"name": "score", "kind": "evaluate", "model": "new", "sequences": 1, "prompts": prompts},
    ]
    _, results = run_here(write_job(tmp_path, stages=stages))
    samples = results["score"]["metrics"]["models"]["new"]["samples"]
    assert [sample["prompt"] for sample in samples] == prompts
    assert all(sample["text"] for sample in samples)
