"""Tokenizers in the ways in which models are published: opened from a run's folder as stock code opens the model's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from espalier.config.faults import RefusedInput
from espalier.models.model_files import read_model_files
from espalier.models.pretrained import open_tokenizer
from espalier.models.tokenizer_difference import PROBES
from support.tiny import byte_tokenizer, put_around


def config(folder: Path, model_type: str, **settings: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type} | settings))


def bert_of_a_word_list(folder: Path) -> None:
    """As BERT came out in 2018: a list of words, and the model's config says the rest."""
    config(folder, "bert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "king",
        "##s",
        "fox",
        "quick",
        *"abcdefghijklmnopqrstuvwxyz,.'",
    ]
    (folder / "vocab.txt").write_text("\n".join(words))


def gpt2_of_words_and_merges(folder: Path) -> None:
    config(folder, "gpt2")
    vocabulary = byte_tokenizer().get_vocab() | {"<|endoftext|>": 257, "th": 258, "the": 259}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")


def llama_that_says_no_class(folder: Path) -> None:
    byte_tokenizer().save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    config(folder, "llama")
    put_around(folder, begin="!")


def qwen2_whose_class_stock_code_puts_right(folder: Path) -> None:
    byte_tokenizer().save_pretrained(folder)
    config(folder, "qwen2")


def llama_whose_config_names_the_class(folder: Path) -> None:
    byte_tokenizer().save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["tokenizer_class"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config(folder, "llama", tokenizer_class="GPT2Tokenizer")


@pytest.mark.parametrize(
    "write",
    [
        bert_of_a_word_list,
        gpt2_of_words_and_merges,
        llama_that_says_no_class,
        qwen2_whose_class_stock_code_puts_right,
        llama_whose_config_names_the_class,
    ],
)
def test_a_run_opens_it_as_stock_code_opens_the_model_s(write: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write(folder)
    stock = transformers.AutoTokenizer.from_pretrained(folder)
    ours = open_tokenizer(read_model_files(folder, setting="model"), folder=str(folder), setting="model")
    assert ours.words() == stock.get_vocab() and ours.eos_id == stock.eos_token_id
    texts = [f"{text} {stock.eos_token or ''}" for text in PROBES]
    assert ours.encode(texts) == stock(texts, add_special_tokens=False)["input_ids"]
    whole = stock(texts)["input_ids"]
    assert [one.ids for one in ours.encode_samples(texts, None, max_tokens=512)] == whole
    for bare, framed in zip(ours.encode(texts), whole, strict=True):
        end = ours.end_ids if framed[len(ours.begin_ids) + len(bare) :] else ()
        assert [*ours.begin_ids, *bare, *end] == framed


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "qwen2"])
def test_a_model_without_words_gets_none_from_stock_code(family: str, tmp_path: Path) -> None:
    """Of some families it makes a tokenizer of the special tokens alone."""
    config(tmp_path, family)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    with pytest.raises(RefusedInput, match=r"`model` is .*; allowed: a folder with a tokenizer: tokenizer.json"):
        open_tokenizer(read_model_files(tmp_path, setting="model"), folder=str(tmp_path), setting="model")
