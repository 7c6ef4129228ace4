"""Tokenizers of published models: many texts at once are tokenised as one by one is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from espalier.models.pretrained import PretrainedTokenizer
from support.tiny import byte_tokenizer

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
