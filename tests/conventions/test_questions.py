"""The questions that names alone should answer have an answer that exists."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
QUESTIONS = yaml.safe_load(Path(__file__).with_name("questions.yaml").read_text())


def test_thirty_different_questions_are_answered_by_files_that_exist() -> None:
    assert len({one["ask"] for one in QUESTIONS}) == len({one["file"] for one in QUESTIONS}) == 30
    assert [one["file"] for one in QUESTIONS if not (ROOT / one["file"]).is_file()] == []
