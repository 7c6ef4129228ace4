"""Prompts and lengths that a model does not know: refused or told by `plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from support.labelled import BERT
from support.tiny import put_around, tiny_job, write_job, write_model

GPT2: dict[str, Any] = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
GPT2 |= {"n_embd": 24, "n_layer": 3, "n_head": 2, "n_positions": 64, "n_inner": None}


def job(root: Path, *prompts: str, sequence_tokens: int = 32, **model: Any) -> Path:
    """The tiny job with these prompts, on a model of these settings."""
    whole = tiny_job(root)
    whole["stages"][3]["prompts"] = list(prompts)
    whole["data"]["sequence_tokens"] = sequence_tokens
    path = write_job(root, **whole)
    if model:
        write_model(root / "model", **model)
    return path


def told(path: Path, *overrides: str) -> list[str]:
    """What is refused; or else what is remarked."""
    try:
        return list(prepare(read_job(path, overrides)).remarks)
    except RefusedInput as refused:
        return [str(fault) for fault in refused.faults]


def test_a_prompt_without_a_token_is_refused_where_no_begin_token_stands_for_it(tmp_path: Path) -> None:
    path = job(tmp_path, "a", "")
    (said,) = told(path)
    assert said.startswith("`stages.score.prompts[1]` is ''; allowed: a text of at least one token")
    put_around(tmp_path / "model", begin="<|end|>")
    assert all("refused" not in one and "at least one" not in one for one in told(path))
    assert told(path, "data.special_tokens=end") == [said]


@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        (24, ""),
        (25, "stages.score.prompts[0] leaves heal room to write 39 tokens, not 40"),
        (63, "stages.score.prompts[0] leaves heal room to write 1 tokens, not 40"),
        (64, "`stages.score.prompts[0]` has 64 tokens; allowed: at most 63 tokens, as heal has 64 positions"),
    ],
)
def test_a_prompt_leaves_room_in_the_table_of_positions(length: int, sentence: str, tmp_path: Path) -> None:
    said = told(job(tmp_path, "a" * length, **GPT2))
    models = ("heal", "parent", "slim") if sentence else ()
    assert len(said) == len(models)
    assert all(any(one.startswith(sentence.replace("heal", name)) for one in said) for name in models)


def test_a_prompt_that_would_take_minutes_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match=r"stages\.score\.prompts.*4096 characters"):
        read_job(job(tmp_path, "a" * 4097))
    assert told(job(tmp_path, "a" * 4096)) == [], "rotary positions have no end"


def test_an_empty_prompt_to_a_model_whose_tokenizer_is_yet_to_be_made(tmp_path: Path) -> None:
    scratch = {"family": "gpt2", "layers": 1, "hidden": 8, "heads": 2, "train_tokenizer": {"vocabulary": 300}}
    stages = [
        {"name": "new", "kind": "load", "from_scratch": scratch},
        {"name": "score", "kind": "evaluate", "model": "new", "prompts": ["", "a" * 2000]},
    ]
    (said,) = told(write_job(tmp_path, stages=stages))
    assert said.startswith("`stages.score.prompts[0]` is ''")


def test_text_beyond_what_rotary_positions_were_made_for_is_warned_of(tmp_path: Path) -> None:
    (said,) = told(job(tmp_path, sequence_tokens=65))
    assert said.startswith("warning: data.sequence_tokens is 65, and the model of stage parent was made for 64")
    assert told(job(tmp_path, sequence_tokens=64)) == []
    scaled = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}
    assert told(job(tmp_path, sequence_tokens=128, **scaled)) == []


def test_text_beyond_learned_positions_is_refused(tmp_path: Path) -> None:
    (said,) = told(job(tmp_path, sequence_tokens=65, **GPT2))
    assert said.startswith("`data.sequence_tokens` is 65; allowed: at most the 64 positions")


def test_a_masked_model_without_a_mask_is_refused(tmp_path: Path) -> None:
    bert = BERT | {"architectures": ["BertForMaskedLM"]}
    stages = [tiny_job(tmp_path)["stages"][0], {"name": "score", "kind": "evaluate", "model": "parent"}]
    path = write_job(tmp_path, stages=stages)
    write_model(tmp_path / "model", **bert)
    (said,) = told(path)
    assert said.startswith("`stages.parent.model` is ") and "tokenizer has a mask token" in said
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings | {"mask_token": "!"}))
    assert told(path) == []


def test_tokens_around_documents_are_told(tmp_path: Path) -> None:
    path = job(tmp_path, "a")
    put_around(tmp_path / "model", begin="!", end="#")
    (said,) = told(path)
    assert said.startswith("documents and prompts begin with !, documents end with #, as the tokenizer of stage parent")
    assert told(path, "data.special_tokens=end") == []


def test_a_model_with_other_special_tokens_than_its_text_is_warned_of(tmp_path: Path) -> None:
    whole = tiny_job(tmp_path)
    stages = [*whole["stages"][:3], {"name": "other", "kind": "load", "model": str(tmp_path / "other")}]
    stages[2] |= {"teacher": "other"}
    path = write_job(tmp_path, stages=stages)
    write_model(tmp_path / "other", seed=2)
    assert told(path) == []
    put_around(tmp_path / "other", begin="!", end="#")
    (warning,) = [one for one in told(path) if one.startswith("warning")]
    between = (
        "other reads documents between nothing and <|end|>, as parent has them, and would have them between ! and #"
    )
    assert warning == f"warning: stages.heal.teacher: {between}"
    assert told(path, "data.special_tokens=end") == []
