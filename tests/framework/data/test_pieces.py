"""A long document has the ids that it would have in one call, and takes no more memory than a few short ones."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from espalier.data import pieces
from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.models.scratch import train_tokenizer

WORDS = ["king", "queen", "enters", "the", "swords", "straße", "isn't", "42", "Kön\u0308ig", "l'été", "—", "…", "x=y_1"]
CJK = "王は来た。刀を取れ、夜が来る。"


def prose(seed: int, words: int, blanks: Sequence[str] = (" ", " ", " ", "  ", ", ", ".\n", "\r\n\r\n", "\t")) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + draw.choice(blanks) for _ in range(words))


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> Callable[[Sequence[str]], list[list[int]]]:
    tokenizer.train_from_iterator([prose(7, 3000), CJK * 20], trainer)
    return lambda texts: [one.ids for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def byte_level() -> Callable[[Sequence[str]], list[list[int]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))


def metaspace() -> Callable[[Sequence[str]], list[list[int]]]:
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=600, special_tokens=["?"], show_progress=False))


def prepended() -> Callable[[Sequence[str]], list[list[int]]]:
    """As Llama 2 has it: a blank before each text, whatever it begins with."""
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=600, special_tokens=["?"], show_progress=False))


def word_piece() -> Callable[[Sequence[str]], list[list[int]]]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="?"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return trained(tokenizer, trainers.WordPieceTrainer(vocab_size=600, special_tokens=["?"], show_progress=False))


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Callable[[Sequence[str]], list[list[int]]]]:
    return {make.__name__: make() for make in (byte_level, metaspace, prepended, word_piece)}


@pytest.mark.parametrize("kind", ["byte_level", "metaspace", "prepended", "word_piece"])
@pytest.mark.parametrize("text", [prose(1, 2000), prose(2, 2000, [" "]), CJK * 500, "a" * 20_000, " " * 20_000])
def test_ids_are_those_of_the_whole_text(
    tokenizers: dict[str, Callable[[Sequence[str]], list[list[int]]]],
    kind: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode = tokenizers[kind]
    whole = encode([text])[0]
    monkeypatch.setattr(pieces, "MAX_CHARACTERS", 1500)
    parts = list(pieces.pieces(text, encode))
    assert len(parts) > 1 and all(0 < len(part) <= 1500 for part in parts)
    (found,) = pieces.encoded([text], encode)
    if text.strip("a ") and not (text.startswith(CJK) and kind in ("metaspace", "prepended")):
        assert found.tolist() == whole
    else:  # one word without an end, or no blank for a tokenizer that begins each text with one: a token a piece
        assert abs(len(found) - len(whole)) <= 2 * len(parts)


def test_texts_keep_their_order_and_are_read_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_CHARACTERS", 1500)
    texts = ["", prose(3, 900), "b", "", prose(4, 5), prose(5, 2000), ""]
    letters: list[int] = []

    def encode(call: Sequence[str]) -> list[list[int]]:
        letters.append(sum(map(len, call)))
        return [[ord(letter) for letter in text] for text in call]

    found = ["".join(map(chr, ids)) for ids in pieces.encoded(texts, encode)]
    assert found == texts and max(letters) < 2 * 1500


def test_memory_is_that_of_a_few_pieces() -> None:
    """What a call of a tokenizer holds is 200 bytes for each of its tokens here, too."""
    most = 0

    def encode(call: Sequence[str]) -> list[list[int]]:
        nonlocal most
        most = max(most, sum(map(len, call)))
        return [[1] * (len(text) // 4) for text in call]

    text = "word " * 500_000
    tracemalloc.start()
    (ids,) = pieces.encoded([text], encode)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most <= 2 * pieces.MAX_CHARACTERS
    assert peak < 6 * len(text) and len(ids) > len(text) // 5


class Counting:
    """A tokenizer of labelled samples, one token a word, which remembers how much it was given at once."""

    def __init__(self) -> None:
        self.most = 0

    def encode_samples(self, texts: Sequence[str], pairs: Sequence[str] | None, *, max_tokens: int) -> list[Encoded]:
        self.most = max(self.most, sum(map(len, [*texts, *(pairs or ())])))
        both = zip(texts, pairs or [""] * len(texts), strict=True)
        return [Encoded([len(word) for word in f"{text} {pair}".split()[:max_tokens]], None) for text, pair in both]


@pytest.mark.parametrize("has_pairs", [False, True])
def test_long_samples_are_cut_before_they_are_encoded(has_pairs: bool) -> None:
    texts = ("a bb " * 500_000, "short one", " " * 100_000 + "late word", *["ccc " * 30_000] * 7)
    pairs = ("one two",) * len(texts) if has_pairs else None
    examples = Examples(texts, texts, pairs, np.zeros(len(texts), dtype=np.int64), np.ones(len(texts)))
    tokenizer = Counting()
    found = LabelledSequences.of(examples, tokenizer, max_tokens=12, read_at="first")
    expected = Counting().encode_samples(texts, pairs, max_tokens=12)
    assert [one.ids for one in found.encoded] == [one.ids for one in expected]
    assert tokenizer.most <= 2 * pieces.MAX_CHARACTERS + 2**17


def test_a_tokenizer_learns_the_same_from_a_long_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = prose(9, 3000)
    train_tokenizer([text], 320, tmp_path / "whole")
    monkeypatch.setattr(pieces, "MAX_CHARACTERS", 900)
    read: list[str] = []
    cut = pieces.pieces
    monkeypatch.setattr("espalier.models.scratch.pieces", lambda *given: (read.append(p) or p for p in cut(*given)))
    train_tokenizer([text], 320, tmp_path / "cut")
    assert len(read) > 9
    assert (tmp_path / "cut" / "tokenizer.json").read_bytes() == (tmp_path / "whole" / "tokenizer.json").read_bytes()
