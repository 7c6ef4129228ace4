"""Tokenizers of the models that a job loads: whole, no larger than their model, compared by what they do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from support.labelled import BERT, labelled_job, write_labelled_job
from support.tiny import put_around, tiny_job, write_job, write_model


def said(path: Path) -> list[str]:
    """What `plan` has against a job."""
    try:
        prepare(read_job(path))
    except RefusedInput as refused:
        return [str(fault) for fault in refused.faults]
    return []


def keys(path: Path) -> dict[str, str]:
    return {stage.name: stage.key for stage in prepare(read_job(path)).plan.stages}


def test_all_that_a_stage_reads_of_a_model_is_in_its_key(tmp_path: Path) -> None:
    path = write_job(tmp_path)
    model, seen = tmp_path / "model", [keys(path)]
    changes = {
        "tokenizer.json": (model / "tokenizer.json").read_text().replace('"A":', '"~A":'),
        "tokenizer_config.json": '{"eos_token": "!", "tokenizer_class": "PreTrainedTokenizerFast"}',
        "chat_template.jinja": "{{ messages }}",
        "generation_config.json": '{"temperature": 0.5}',
        "special_tokens_map.json": '{"pad_token": "!"}',
        "model.safetensors.index.json": '{"weight_map": {}}',
        "config.json": json.dumps(json.loads((model / "config.json").read_text()) | {"rms_norm_eps": 1e-3}),
    }
    for name, content in changes.items():
        (model / name).write_text(content)
        seen.append(keys(path))
    os.utime(model / "model.safetensors", ns=(1, 1))
    seen.append(keys(path))
    for stage in seen[0]:
        assert len({one[stage] for one in seen}) == len(seen), stage
    (model / "README.md").write_text("nobody reads this")
    assert keys(path) == seen[-1]


def test_a_tokenizer_that_random_weights_go_with_is_in_the_key(tmp_path: Path) -> None:
    scratch = {"family": "llama", "layers": 1, "hidden": 8, "heads": 2, "tokenizer": str(tmp_path / "model")}
    path = write_job(tmp_path, stages=[{"name": "new", "kind": "load", "from_scratch": scratch}])
    before = keys(path)
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}")
    assert keys(path) != before


def empty(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def cut_short(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])


def too_deep(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"a":' * 100_000)


def no_settings(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")


def no_words(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Mystery"}}')


def settings_of_nonsense(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": ["a"], "eos_token": 3}')


def link_out(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "chat_template.jinja").symlink_to("../secret")


@pytest.mark.parametrize(
    "harm", [empty, cut_short, too_deep, no_settings, no_words, settings_of_nonsense, link_out, os.unlink]
)
def test_a_tokenizer_that_cannot_be_opened_is_refused(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = write_job(tmp_path)
    harm(tmp_path / "model" if harm is not os.unlink else tmp_path / "model" / "tokenizer.json")
    (sentence,) = said(path)
    assert sentence.startswith("`stages.parent.model` ") and "token" in sentence and "\n" not in sentence


def test_a_tokenizer_of_random_weights_is_opened_as_well(tmp_path: Path) -> None:
    scratch = {"family": "llama", "layers": 1, "hidden": 8, "heads": 2, "tokenizer": str(tmp_path / "model")}
    path = write_job(tmp_path, stages=[{"name": "new", "kind": "load", "from_scratch": scratch}])
    assert said(path) == []
    cut_short(tmp_path / "model")
    assert said(path)[0].startswith("`stages.new.from_scratch.tokenizer` names ")


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path: Path) -> None:
    path = write_job(tmp_path)
    write_model(tmp_path / "model", vocab_size=300)
    assert said(path) == [], "rows that no token uses are padding"
    write_model(tmp_path / "model", vocab_size=256)
    (sentence,) = said(path)
    assert "whose tokenizer has ids up to 256;" in sentence and "vocab_size 256" in sentence
    tokens = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    del tokens["model"]["vocab"]["a"]  # ids may have holes: 256 tokens are left, and the last is number 256
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokens))
    assert said(path) == [sentence]


def saved_after_use(folder: Path) -> None:
    """What `save_pretrained` writes once a tokenizer has padded and cut a batch."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=7, pad_token="<|end|>")
    tokenizer.enable_truncation(5)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def another_end(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "!"}))


def other_words(folder: Path) -> None:
    tokens = json.loads((folder / "tokenizer.json").read_text())
    words = tokens["model"]["vocab"]
    words["A"], words["B"] = words["B"], words["A"]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))


def other_cuts(folder: Path) -> None:
    """The same words, and one of them is found in capitals too."""
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(tokens))


def begins(folder: Path) -> None:
    put_around(folder, begin="<|end|>")


CASES: list[tuple[Callable[[Path], None], str, str]] = [
    (saved_after_use, "", ""),
    (another_end, "", ""),
    (begins, "", "puts other special tokens around a text"),
    (other_words, "whose ids mean other words", "whose ids mean other words"),
    (other_cuts, "cuts text into others of them", "cuts text into others of them"),
]


@pytest.mark.parametrize(("change", "text", "labels"), CASES, ids=[case[0].__name__ for case in CASES])
def test_tokenizers_are_compared_by_what_they_do(
    change: Callable[[Path], None], text: str, labels: str, tmp_path: Path
) -> None:
    stranger: dict[str, Any] = {"name": "stranger", "kind": "load", "model": str(tmp_path / "stranger")}
    stages = tiny_job(tmp_path)["stages"]
    stages[2] |= {"teacher": "stranger"}
    of_text = write_job(tmp_path, stages=[stranger, *stages])
    write_model(tmp_path / "stranger", seed=2)
    assert said(of_text) == []
    change(tmp_path / "stranger")
    faults = said(of_text)
    assert [text in fault and "`stages.heal.teacher`" in fault for fault in faults] == [True] * bool(text)

    stages = labelled_job(tmp_path)["stages"]
    stages[3] |= {"teacher": "stranger"}
    of_labels = write_labelled_job(tmp_path, stages=[stranger, *stages])
    write_model(tmp_path / "stranger", seed=2, **BERT)
    change(tmp_path / "stranger")
    faults = said(of_labels)
    assert [labels in fault and "`stages.corrected.teacher`" in fault for fault in faults] == [True] * bool(labels)
