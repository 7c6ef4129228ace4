"""Tokenizers of published models: many texts at once are tokenised as one by one is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from espalier.models.pretrained import PretrainedTokenizer, copy_tokenizer
from support.tiny import byte_tokenizer, write_model

SETTING = "TOKENIZERS_PARALLELISM"


@pytest.mark.parametrize("before", [None, "false", "true"])
def test_many_texts_are_tokenised_alike_and_leave_the_threads_off(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    tokenizer = PretrainedTokenizer(tmp_path)
    monkeypatch.setenv(SETTING, "set, so that it is taken back after the test")
    if before is None:
        del os.environ[SETTING]
    else:
        os.environ[SETTING] = before
    texts = [f"text {number} " * (number % 7) for number in range(200)]
    together = tokenizer.encode(texts)
    assert together == [tokenizer.encode([text])[0] for text in texts] and any(together)
    assert os.environ[SETTING] == (before or "false"), "a fork after this neither warns nor waits for threads"


def test_a_tokenizer_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    source, target = write_model(tmp_path / "model"), tmp_path / "tokenizers" / "key"
    copy_tokenizer(source, target)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    for again in (source, target):
        copy_tokenizer(again, target)
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before and "tokenizer.json" in before
    (source / "chat_template.jinja").write_text("{{ messages }}")
    copy_tokenizer(source, target)
    assert (target / "chat_template.jinja").exists() and [path.name for path in target.parent.iterdir()] == ["key"]
