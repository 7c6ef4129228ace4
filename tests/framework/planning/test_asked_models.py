"""Models that are asked beside a stage's own: with its tokens, so that they must know the same ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from support.labelled import BERT, labelled_job, write_labelled_job
from support.tiny import byte_tokenizer, write_model


def other_words(folder: Path) -> None:
    """As many tokens, but the numbers mean other ones."""
    write_model(folder, **BERT)
    text = byte_tokenizer().backend_tokenizer.to_str()
    (folder / "tokenizer.json").write_text(text.replace('"A":', '"@":').replace('"B":', '"A":').replace('"@":', '"B":'))


def decoder(folder: Path) -> None:
    write_model(folder)


def wider(folder: Path) -> None:
    """Rows for tokens that its tokenizer does not have."""
    write_model(folder, **BERT, vocab_size=300)


WORDS = "a model with the tokenizer of parent, whose ids mean other words to this one; or a cross_fit stage of it."
READS = "an encoder, as parent is: its head reads the first token; or a cross_fit stage of it."


def said(root: Path, make: Callable[[Path], None], change: Callable[[list[dict[str, Any]]], None]) -> list[str]:
    make(root / "stranger")
    stages = labelled_job(root)["stages"]
    stages.append({"name": "stranger", "kind": "load", "model": str(root / "stranger")})
    change(stages)
    try:
        prepare(read_job(write_labelled_job(root, stages=stages)))
    except RefusedInput as refused:
        return [str(fault) for fault in refused.faults]
    return []


@pytest.mark.parametrize(("make", "wanted"), [(other_words, WORDS), (decoder, READS)])
def test_a_teacher_that_reads_other_tokens_than_a_corrected_student_is_refused(
    tmp_path: Path, make: Callable[[Path], None], wanted: str
) -> None:
    assert said(tmp_path, make, lambda stages: stages[3].update(teacher="stranger")) == [
        f"`stages.corrected.teacher` is 'stranger'; allowed: {wanted}"
    ]


@pytest.mark.parametrize(("make", "wanted"), [(other_words, WORDS), (decoder, READS)])
def test_models_compared_with_another_tokenizer_are_refused(
    tmp_path: Path, make: Callable[[Path], None], wanted: str
) -> None:
    own = wanted.replace("parent", "corrected").replace(
        "a cross_fit stage of it", "measure it in an evaluate stage of its own"
    )
    assert said(tmp_path, make, lambda stages: stages[4].update(against=["vanilla", "stranger"])) == [
        f"`stages.scores.against[1]` is 'stranger'; allowed: {own}"
    ]


def test_fold_models_of_another_line_keep_their_own_tokenizer(tmp_path: Path) -> None:
    assert said(tmp_path, other_words, lambda stages: stages[2].update(student="stranger")) == []


def test_rows_that_no_token_uses_do_not_matter_to_labels(tmp_path: Path) -> None:
    assert said(tmp_path, wider, lambda stages: stages[3].update(teacher="stranger")) == []


def test_a_teacher_that_pads_with_another_token_reads_another_one(tmp_path: Path) -> None:
    write_model(tmp_path / "stranger", pad_token_id=5)
    stages = labelled_job(tmp_path)["stages"]
    stages.append({"name": "stranger", "kind": "load", "model": str(tmp_path / "stranger")})
    stages[3]["teacher"] = "stranger"
    with pytest.raises(RefusedInput, match=r"stages\.corrected\.teacher.*a model whose pad_token_id is 0, as parent's"):
        prepare(read_job(write_labelled_job(tmp_path, model={}, stages=stages)))
