"""Exports that the oldest transformers of the family reads, and a length that its pipelines cut texts at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from espalier.models.exported_files import exported_files
from espalier.models.model_files import read_model_files
from espalier.models.scratch import train_tokenizer
from support.architectures import CONFIGS

VERSION_5 = {"backend": "tokenizers", "is_local": True, "tokenizer_class": "TokenizersBackend"}


def written(settings: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    files = {"tokenizer_config.json": json.dumps(settings).encode(), "tokenizer.json": b"{}"}
    return json.loads(exported_files(files, config)["tokenizer_config.json"])


def test_names_that_only_version_5_knows_become_those_of_4() -> None:
    found = written(VERSION_5 | {"extra_special_tokens": ["<a>"]}, CONFIGS["llama"])
    assert found == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "additional_special_tokens": ["<a>"],
        "model_max_length": 64,
    }
    own = {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {"image": "<i>"}, "model_max_length": 50}
    assert written(own, CONFIGS["llama"]) == own
    assert "tokenizer_class" not in written({}, CONFIGS["gpt2"]), "stock code takes that of the model"


@pytest.mark.parametrize(
    ("given", "config", "length"),
    [
        (10**30, {}, 64),
        (None, {}, 64),
        (1e30, {}, 64),
        (50, {}, 50),
        (100, {}, 100),
        (None, {"rope_scaling": {"type": "linear", "factor": 4.0}}, 256),
        (None, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 64),
        (None, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}}, 128),
        (None, {"max_position_embeddings": None}, 2048),
        (10**30, CONFIGS["gpt2"], 23),
        (100, CONFIGS["gpt2"], 23),
        (20, CONFIGS["gpt2"], 20),
        (512, CONFIGS["bert"], 23),
    ],
)
def test_the_length_is_what_the_model_reads(given: float | None, config: dict[str, Any], length: int) -> None:
    config = config if "vocab_size" in config else CONFIGS["llama"] | config
    assert written({"model_max_length": given}, config)["model_max_length"] == length


def test_a_tokenizer_made_here_is_exported_so(tmp_path: Path) -> None:
    train_tokenizer(["the king enters, the lady speaks"] * 9, 300, tmp_path / "made")
    files = exported_files(read_model_files(tmp_path / "made", setting="model"), CONFIGS["gpt2"])
    settings = json.loads(files["tokenizer_config.json"])
    assert (settings["tokenizer_class"], settings["model_max_length"]) == ("PreTrainedTokenizerFast", 23)
    for name, content in (files | {"config.json": json.dumps(CONFIGS["gpt2"]).encode()}).items():
        (tmp_path / name).write_bytes(content)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer("the king " * 99, truncation=True)["input_ids"]) == 23
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 1, 2)


def test_what_an_older_run_kept_is_stripped_on_its_way_out() -> None:
    files = {
        "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["a.B", null]}}',
        "generation_config.json": b'{"custom_generate": "a", "top_k": 3}',
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
    }
    found = exported_files(files, CONFIGS["llama"])
    assert json.loads(found["tokenizer_config.json"]) == {"model_max_length": 64}
    assert json.loads(found["generation_config.json"]) == {"top_k": 3}
    assert "config.json" not in found
