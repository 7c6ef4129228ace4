"""Tokenizer, chat template and generation settings go with the model that they came with, through every stage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml

from espalier.kinds.export.work import export_stage
from espalier.models.pretrained import PretrainedTokenizer
from espalier.stages.run_folder import RunFolder
from support.tiny import tiny_job, write_model, write_text
from support.whole_run import run_here

END = {"student": "<|im_end|>", "teacher": "<|end|>"}
BATCH = {"batch": {"sequences": 1, "microbatch_sequences": 1}, "budget": {"steps": 1}, "zero_level": "none"}


def write_as(folder: Path, name: str) -> None:
    """A model whose files say whose they are; both have one vocabulary."""
    write_model(folder, vocab_size=258)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    tokenizer["added_tokens"] = [{"id": 0, "content": "<|end|>"} | flags, {"id": 257, "content": "<|im_end|>"} | flags]
    tokenizer["model"]["vocab"]["<|im_end|>"] = 257
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": END[name]}))
    (folder / "chat_template.jinja").write_text(f"{name} speaks")
    (folder / "generation_config.json").write_text(json.dumps({"temperature": len(name), "custom_generate": "evil"}))
    config = json.loads((folder / "config.json").read_text()) | {"trust_remote_code": True, "custom_generate": "evil"}
    (folder / "config.json").write_text(json.dumps(config))
    for code in ("modeling_evil.py", "custom_generate/generate.py"):
        (folder / code).parent.mkdir(exist_ok=True)
        (folder / code).write_text("raise SystemExit('evil')")


@pytest.fixture(
    scope="module", params=[("student", "teacher"), ("teacher", "student")], ids=["student first", "teacher first"]
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """Each of the two is loaded last once."""
    root = tmp_path_factory.mktemp("lineage")
    write_text(root / "text", num_words=40)
    for name in END:
        write_as(root / name, name)
    trained = BATCH | {"optimizer": {"lr": 0.001}}
    stages: list[dict[str, Any]] = [
        *({"name": name, "kind": "load", "model": str(root / name)} for name in request.param),
        {"name": "grown", "kind": "grow", "student": "student", "target": {"layers": 4}},
        {"name": "slim", "kind": "prune", "student": "grown", "target": {"layers": 2}, "calibration": {"samples": 1}},
        {"name": "heal", "kind": "distill", "student": "slim", "teacher": "teacher", **trained},
        {"name": "tuned", "kind": "train", "student": "heal", **trained},
        {"name": "out", "kind": "export", "model": "tuned", "dtype": "float32"},
    ]
    path = root / "job.yaml"
    path.write_text(yaml.safe_dump(tiny_job(root, stages=stages)))
    folder, _ = run_here(path)
    yield folder


def test_an_export_carries_its_own_line_s_files(run: RunFolder, tmp_path: Path) -> None:
    folder = run.export("out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|im_end|>", "student speaks")
    assert json.loads((folder / "generation_config.json").read_text()) == {"temperature": len("student")}
    for stage, name in {"teacher": "teacher", "student": "student", "slim": "student"}.items():
        export_stage(run.path, stage, tmp_path / stage, dtype="float32")
        assert (tmp_path / stage / "chat_template.jinja").read_text() == f"{name} speaks"


def test_no_code_and_nothing_that_asks_for_it_leaves_with_an_export(run: RunFolder) -> None:
    for path in run.export("out").rglob("*"):
        assert path.suffix in (".json", ".jinja", ".md", ".safetensors"), path
        assert b"evil" not in path.read_bytes() and b"trust_remote" not in path.read_bytes(), path


def test_documents_end_as_the_student_s_tokenizer_ends_them(run: RunFolder) -> None:
    results = run.results(["student", "teacher"])
    ends = {name: PretrainedTokenizer(run.tokenizer(one.metrics["tokenizer"])).eos_id for name, one in results.items()}
    assert ends == {"student": 257, "teacher": 0}
