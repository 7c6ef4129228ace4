import multiprocessing
import random
from pathlib import Path

import numpy as np
import pytest
from letters import LetterTokenizer, Untouchable

from espalier.config.data import DataConfig
from espalier.config.faults import RefusedInput
from espalier.data.sequences import open_sequences
from espalier.data.token_files import Tokens, open_tokens
from espalier.data.tokens import write_tokens

TEXTS = ["abc", "", "d", "efghi"]


def config(folder: Path, **changes: object) -> DataConfig:
    (folder / "train.txt").write_text("abcdefghijklmnopqrs")
    (folder / "valid.txt").write_text("srqponmlkjihgfedcba")
    train, valid = ({"source": "text", "files": [str(folder / f"{name}.txt")]} for name in ("train", "valid"))
    return DataConfig.model_validate({"train": train, "valid": valid, "sequence_tokens": 11} | changes)


def kept(folder: Path, vocabulary: int = 29) -> Tokens:
    tokens = open_tokens(folder, vocabulary=vocabulary)
    assert tokens is not None
    return tokens


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("eos", "ids"), [(0, [1, 2, 3, 0, 4, 0, 5, 6, 7, 8, 9, 0]), (None, [1, 2, 3, 4, 5, 6, 7, 8, 9])]
)
def test_documents_are_kept_end_to_end(tmp_path: Path, eos: int | None, ids: list[int]) -> None:
    write_tokens(TEXTS, LetterTokenizer(eos_id=eos), folder=tmp_path / "t", setting="data.train")
    tokens = kept(tmp_path / "t")
    assert tokens.ids.tolist() == ids
    closing = eos is not None
    assert np.diff(tokens.offsets).tolist() == [3 + closing, 1 + closing, 5 + closing]


@pytest.mark.parametrize(("vocabulary", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_ids_take_the_smallest_type_that_fits(tmp_path: Path, vocabulary: int, dtype: type) -> None:
    tokenizer = LetterTokenizer(vocabulary=vocabulary, eos_id=vocabulary - 1)
    write_tokens(["a"], tokenizer, folder=tmp_path / "t", setting="data.train")
    tokens = kept(tmp_path / "t", vocabulary)
    assert tokens.ids.dtype == dtype and tokens.ids.tolist() == [1, vocabulary - 1]


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(5)
    texts = ["".join(draw.choices("abcdefg", k=draw.randrange(1, 31))) for _ in range(601)]
    done: list[int] = []
    write_tokens(texts, LetterTokenizer(), folder=tmp_path / "one", setting="x", on_progress=done.append)
    assert done == [0, 256, 512]
    monkeypatch.setattr("espalier.data.pieces._MAX_TEXTS", 37)
    write_tokens(texts, LetterTokenizer(), folder=tmp_path / "two", setting="x")
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("text", ["abz", "ab`"])  # 26 and 0, less one each
def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path, text: str) -> None:
    class Low(LetterTokenizer):
        def encode(self, texts):
            return [[i - 1 for i in ids] for ids in super().encode(texts)]

    with pytest.raises(RefusedInput, match="tokenizer"):
        write_tokens([text], Low(vocabulary=25), folder=tmp_path / "t", setting="data.train")
    assert list(tmp_path.iterdir()) == []


def test_no_text_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match=r"data\.train"):
        write_tokens([""], LetterTokenizer(), folder=tmp_path / "t", setting="data.train")
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.data.pieces._MAX_TEXTS", 1)

    def texts():
        yield "abc"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(texts(), LetterTokenizer(), folder=tmp_path / "t", setting="data.train")
    assert list(tmp_path.iterdir()) == []


def _write_and_die(folder: Path) -> None:
    import os

    write_tokens(["abc", "def"], LetterTokenizer(), folder=folder, setting="x", on_progress=lambda _: os._exit(9))


def test_a_killed_process_leaves_no_tokens_and_the_next_one_makes_them(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path / "t",))
    process.start()
    process.join()
    assert process.exitcode == 9 and len(list(tmp_path.iterdir())) == 1
    assert open_tokens(tmp_path / "t", vocabulary=29) is None
    write_tokens(["abc"], LetterTokenizer(), folder=tmp_path / "t", setting="x")
    assert len(kept(tmp_path / "t").ids) == 4


def test_of_two_writers_the_first_to_end_stays(tmp_path: Path) -> None:
    def texts():
        yield "abc"
        write_tokens(["abc"], LetterTokenizer(), folder=tmp_path / "t", setting="x")

    write_tokens(texts(), LetterTokenizer(), folder=tmp_path / "t", setting="x")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert len(kept(tmp_path / "t").ids) == 4


def test_text_is_tokenised_once(tmp_path: Path) -> None:
    data, cache = config(tmp_path), tmp_path / "cache"
    first = open_sequences(data, "train", tokenizer=LetterTokenizer(), cache=cache)
    for changes in ({}, {"sequence_tokens": 13}, {"layout": "documents"}):
        open_sequences(config(tmp_path, **changes), "train", tokenizer=Untouchable(), cache=cache)
    again = open_sequences(data, "train", tokenizer=Untouchable(), cache=cache)
    assert again.row(0).input_ids.tolist() == first.row(0).input_ids.tolist()


def test_what_changes_tokens_has_a_cache_of_its_own(tmp_path: Path) -> None:
    data, cache = config(tmp_path), tmp_path / "cache"
    open_sequences(data, "train", tokenizer=LetterTokenizer(), cache=cache)
    open_sequences(data, "valid", tokenizer=LetterTokenizer(), cache=cache)
    open_sequences(data, "train", tokenizer=LetterTokenizer(key="other"), cache=cache)
    open_sequences(data, "train", tokenizer=LetterTokenizer(eos_id=None), cache=cache)
    (tmp_path / "train.txt").write_text("abcdefghijklm")
    open_sequences(data, "train", tokenizer=LetterTokenizer(), cache=cache)
    assert len(list(cache.iterdir())) == 5


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    data = config(tmp_path, sequence_tokens=23)
    with pytest.raises(RefusedInput, match=r"sequence_tokens.*at most the 20 tokens"):
        open_sequences(data, "train", tokenizer=LetterTokenizer(), cache=tmp_path / "cache")
    assert len(open_sequences(data, "valid", tokenizer=LetterTokenizer(), cache=tmp_path / "cache")) == 1
