"""The model card of an export: what comes from outside stays text in it."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.schema import resolved
from espalier.kinds.export.card import model_card
from espalier.kinds.export.markdown import as_code, as_text
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from support.models import LLAMA
from support.tiny import tiny_job

EVIL = [
    "/m/`x` | <img src=x onerror=alert(1)>",
    "/m/[a](javascript:b)",
    "/m/**b** _c_ ![](http://e)",
    "/m/<!--",
    "/m/&lt;b",
]


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("written", [as_text, as_code])
def test_text_is_neither_markup_nor_a_cell_s_end(text: str, written: Any) -> None:
    shown = written(text).removeprefix("<code>").removesuffix("</code>")
    assert not set("`|<>[]*_!:.\n") & set(shown) and html.unescape(shown) == text


def test_line_breaks_begin_nothing() -> None:
    assert as_text("a\n---\nlicense: mit\n# b") == "a --- license&#58; mit &#35; b"
    assert as_text("layers_3") == "layers_3" and as_code("/models/Qwen2.5-0.5B") == "`/models/Qwen2.5-0.5B`"


def test_a_card_shows_a_path_and_does_not_obey_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "model").mkdir()
    job = Job.model_validate(tiny_job(tmp_path) | {"stages": [{"name": "parent", "kind": "load", "model": EVIL[0]}]})
    folder.write_json("job.json", resolved(job))
    folder.write_result(StageResult("parent", "load", "k", "done", None))
    card = model_card(folder, SimpleNamespace(manifest=SimpleNamespace(origin=SimpleNamespace(model=LLAMA))))
    row = next(line for line in card.splitlines() if line.startswith("| parent"))
    assert row.count("|") == 6 and "<img" not in card and html.unescape(row).count(EVIL[0]) == 1
    assert len(re.findall("^---$", card, re.MULTILINE)) == 2


def test_a_card_is_written_whatever_a_measurement_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "model").mkdir()
    stages = [
        {"name": "parent", "kind": "load", "model": str(tmp_path / "model")},
        {"name": "score", "kind": "evaluate", "model": "parent"},
    ]
    folder.write_json("job.json", resolved(Job.model_validate(tiny_job(tmp_path) | {"stages": stages}, strict=False)))
    figures = {"parent": {"perplexity": "low"}, "other": {"parameters": 12_000, "tokens": 7, "perplexity": 2.5}}
    folder.write_result(StageResult("score", "evaluate", "k", "done", None, {"models": figures, "model": "parent"}))
    card = model_card(folder, SimpleNamespace(manifest=SimpleNamespace(origin=SimpleNamespace(model=LLAMA))))
    assert "| other | 12,000 | 2.5 | 7 |" in card and "| parent | 0 | inf | 0 |" in card


@pytest.mark.parametrize("metrics", [{"parameters": {"a": 1}}, {"models": {"m": {"parameters": "many"}}}])
def test_sizes_that_are_no_numbers_are_refused_with_their_file(tmp_path: Path, metrics: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path)
    folder.write_result(StageResult("parent", "load", "k", "done", None, metrics))
    with pytest.raises(RefusedInput, match=r"metrics\.(parameters|models)"):
        folder.result("parent")
