"""Text with the tokens around it that the model's tokenizer puts there when anybody asks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from espalier.config.data import DataConfig
from espalier.data.fingerprint import fingerprint_of_text
from espalier.data.packing import NO_LABEL
from espalier.data.sequences import open_sequences
from espalier.models.pretrained import PretrainedTokenizer
from espalier.training.masking import Masking
from support.tiny import byte_tokenizer, put_around, tiny_job, write_model, write_text
from support.whole_run import run_here

END, BEGIN, CLOSE = 0, 1, 3  # <|end|>, ! and # in the byte tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def around(folder: Path, **settings: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    tokenizer = PretrainedTokenizer(folder, **settings)
    return tokenizer.begin_ids, tokenizer.end_ids


def test_a_tokenizer_s_own_way_and_the_end_alone(folder: Path) -> None:
    assert around(folder) == around(folder, special_tokens="end") == ((), (END,))
    put_around(folder, begin="!")
    assert around(folder) == ((BEGIN,), (END,)), "nothing stands at the end, so that the end of text does"
    put_around(folder, begin="!", end="#")
    assert around(folder) == ((BEGIN,), (CLOSE,))
    put_around(folder, begin="!", end="<|end|>")
    assert around(folder) == ((BEGIN,), (END,)), "an end of text that is there already does not stand twice"
    assert around(folder, special_tokens="end") == ((), (END,))


def test_prompts_begin_as_documents_do(folder: Path) -> None:
    put_around(folder, begin="!", end="#")
    bare = PretrainedTokenizer(folder, special_tokens="end").encode_prompt("the king")
    assert PretrainedTokenizer(folder).encode_prompt("the king") == [BEGIN, *bare]
    assert PretrainedTokenizer(folder).encode(["the king"]) == [bare]


def test_each_document_stands_between_them_and_the_first_word_is_asked_for(folder: Path, tmp_path: Path) -> None:
    put_around(folder, begin="!", end="#")
    write_text(tmp_path / "text", num_files=5, num_words=3)
    data = DataConfig.model_validate(tiny_job(tmp_path)["data"] | {"layout": "documents", "sequence_tokens": 400})
    tokenizer = PretrainedTokenizer(folder)
    sequences = open_sequences(data, "train", tokenizer=tokenizer, cache=tmp_path / "cache")
    for number in range(len(sequences)):
        row = sequences.row(number)
        assert (row.input_ids[0], row.input_ids[-1]) == (BEGIN, CLOSE) and np.count_nonzero(row.input_ids == BEGIN) == 1
        assert row.labels[0] == row.input_ids[1] and row.labels[-1] == NO_LABEL
    end = PretrainedTokenizer(folder, special_tokens="end")
    other = open_sequences(data, "train", tokenizer=end, cache=tmp_path / "cache")
    assert list(other.row(0).input_ids) == [*sequences.row(0).input_ids[1:-1], END], "they are kept apart"


def test_none_of_them_is_hidden_from_a_masked_model(folder: Path) -> None:
    put_around(folder, begin="!", end="#")
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"mask_token": "$"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    masking = Masking.of(model, PretrainedTokenizer(folder), share=0.5, seed=1)
    assert masking is not None and masking.special_ids == (BEGIN, CLOSE)


def test_the_setting_is_in_the_keys(tmp_path: Path) -> None:
    write_text(tmp_path / "text", num_files=2)
    data = tiny_job(tmp_path)["data"]
    prints = {fingerprint_of_text(DataConfig.model_validate(data | {"special_tokens": way})) for way in ("own", "end")}
    assert len(prints) == 2 and fingerprint_of_text(DataConfig.model_validate(data)) in prints


def test_a_run_measures_text_as_its_model_reads_it(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_text(tmp_path / "text", num_words=20)
    stages = [tiny_job(tmp_path)["stages"][0]]
    stages += [{"name": "score", "kind": "evaluate", "model": "parent", "prompts": ["", "the"]}]
    put_around(tmp_path / "model", begin="!")

    def tokens(name: str, **changes: Any) -> int:
        job = tiny_job(tmp_path, name=name, stages=stages)
        job["data"] |= changes
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job))
        return run_here(path)[1]["score"]["metrics"]["models"]["parent"]["tokens"]

    own = tokens("own", layout="documents", sequence_tokens=400)
    stages[1] |= {"prompts": ["the"]}
    end = tokens("end", layout="documents", sequence_tokens=400, special_tokens="end")
    assert 0 < own - end < 12, "one more for each document that validates: its first word is asked for, too"
