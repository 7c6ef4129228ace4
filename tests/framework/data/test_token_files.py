"""Tokens on storage that others write to: what is not what this user wrote is said, left alone and made anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from letters import LetterTokenizer, Untouchable

from espalier.config.data import DataConfig
from espalier.config.faults import RefusedInput
from espalier.data import token_files
from espalier.data.sequences import keep_tokens, open_sequences
from espalier.data.token_files import UntrustedTokens, open_tokens
from espalier.data.tokens import write_tokens

IDS = [1, 2, 3, 0, 4, 0, 5, 6, 7, 8, 9, 0]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    write_tokens(["abc", "d", "efghi"], LetterTokenizer(), folder=folder, setting="data.train")
    return folder


def flip_one_bit(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[8] ^= 1
        (folder / name).write_bytes(content)

    return damage


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, os.path.getsize(folder / name) - 2)


def recorded(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        record = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(record | changes))

    return damage


def ids_past_the_vocabulary(folder: Path) -> None:
    """With a record that agrees: what another program or a later version may write."""
    content = np.array([*IDS[:-1], 29], dtype=np.uint16).tobytes()
    (folder / "tokens.bin").write_bytes(content)
    recorded(tokens_xxh3=xxhash.xxh3_128_hexdigest(content))(folder)


def offsets(*values: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = np.array(values, dtype=np.int64).tobytes()
        (folder / "offsets.bin").write_bytes(content)
        recorded(offsets_xxh3=xxhash.xxh3_128_hexdigest(content))(folder)

    return damage


def link_out(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return damage


def pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def no_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.write_text("a file")


def linked_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


DAMAGES = {
    "object pointers": (recorded(dtype="O"), "dtype"),
    "signed": (recorded(dtype="int16"), "dtype"),
    "wider": (recorded(dtype="uint32"), "24 bytes, not the 48"),
    "another format": (recorded(format=1), "format"),
    "another vocabulary": (recorded(vocabulary=30), "vocabulary of 30, not 29"),
    "a count as text": (recorded(num_tokens="12"), "num_tokens"),
    "more documents": (recorded(num_documents=10**12), "32 bytes, not"),
    "no record": (lambda folder: (folder / "meta.json").write_text("{"), "no record"),
    "a record without end": (lambda folder: (folder / "meta.json").write_text("[" * 10**6), "no record"),
    "a bit of the tokens": (flip_one_bit("tokens.bin"), "tokens.bin does not have the hash"),
    "a bit of the offsets": (flip_one_bit("offsets.bin"), "offsets.bin does not have the hash"),
    "tokens cut off": (cut("tokens.bin"), "22 bytes, not the 24"),
    "offsets cut off": (cut("offsets.bin"), "30 bytes, not the 32"),
    "record cut off": (cut("meta.json"), "no record"),
    "ids past the vocabulary": (ids_past_the_vocabulary, "id 29, which is not below 29"),
    "offsets that go back": (offsets(0, 6, 4, 12), "does not divide"),
    "offsets past the end": (offsets(0, 4, 6, 13), "does not divide"),
    "tokens gone": (lambda folder: (folder / "tokens.bin").unlink(), "tokens.bin cannot be opened"),
    "a link": (link_out("tokens.bin"), "tokens.bin is a link"),
    "a record that is a link": (link_out("meta.json"), "meta.json is a link"),
    "a pipe": (pipe("tokens.bin"), "tokens.bin is no plain file"),
    "a record that is a pipe": (pipe("meta.json"), "meta.json is no plain file"),
    "a file as folder": (no_folder, "no folder"),
    "a linked folder": (linked_folder, "no folder"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_altered_token_files_are_not_used(kept: Path, name: str) -> None:
    damage, says = DAMAGES[name]
    damage(kept)
    with pytest.raises(UntrustedTokens, match=says):
        open_tokens(kept, vocabulary=29)


def test_token_files_are_read_back_and_unknown_keys_ignored(kept: Path) -> None:
    recorded(made_by="a later version")(kept)
    tokens = open_tokens(kept, vocabulary=29)
    assert tokens is not None and tokens.ids.tolist() == IDS and tokens.offsets.tolist() == [0, 4, 6, 12]


def test_files_of_another_user_are_not_used(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    someone = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: someone)
    assert open_tokens(kept, vocabulary=29) is not None  # storage where all files have one owner, whoever writes
    monkeypatch.setattr(token_files, "_uid_of_new_files", lambda folder: someone)
    with pytest.raises(UntrustedTokens, match="belongs to another user"):
        open_tokens(kept, vocabulary=29)


def test_others_cannot_enter_the_folder(kept: Path) -> None:
    assert kept.stat().st_mode & 0o077 == 0


def test_content_is_read_once_in_a_process_and_again_when_it_changes(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    chunks = token_files._chunks
    monkeypatch.setattr(token_files, "_chunks", lambda path: (read.append(path.name), chunks(path))[1])
    for _ in range(3):
        open_tokens(kept, vocabulary=29)
    assert read == ["tokens.bin", "offsets.bin"]
    flip_one_bit("tokens.bin")(kept)
    with pytest.raises(UntrustedTokens):
        open_tokens(kept, vocabulary=29)


def job_data(folder: Path) -> DataConfig:
    (folder / "train.txt").write_text("abcdefghijklmnopqrs")
    (folder / "valid.txt").write_text("srqponmlkjihgfedcba")
    train, valid = ({"source": "text", "files": [str(folder / f"{name}.txt")]} for name in ("train", "valid"))
    return DataConfig.model_validate({"train": train, "valid": valid, "sequence_tokens": 11})


def test_damaged_tokens_are_reported_kept_and_made_again(tmp_path: Path) -> None:
    data, cache, said = job_data(tmp_path), tmp_path / "cache", []
    first = keep_tokens(data, "train", tokenizer=LetterTokenizer(), cache=cache)
    flip_one_bit("tokens.bin")(cache / first)
    damaged = (cache / first / "tokens.bin").read_bytes()
    second = keep_tokens(data, "train", tokenizer=LetterTokenizer(), cache=cache, on_distrust=said.append)
    assert second != first and (cache / first / "tokens.bin").read_bytes() == damaged
    assert len(said) == 1 and str(cache / first) in said[0] and "hash" in said[0]
    assert keep_tokens(data, "train", tokenizer=Untouchable(), cache=cache) == second
    sequences = open_sequences(data, "train", tokenizer=Untouchable(), cache=cache, kept=second)
    assert sequences.row(0).input_ids.tolist() == list(range(1, 12))


def test_tokens_damaged_after_verification_are_refused(tmp_path: Path) -> None:
    data, cache = job_data(tmp_path), tmp_path / "cache"
    name = keep_tokens(data, "train", tokenizer=LetterTokenizer(), cache=cache)
    cut("tokens.bin")(cache / name)
    with pytest.raises(RefusedInput, match="made anew"):
        open_sequences(data, "train", tokenizer=Untouchable(), cache=cache, kept=name)


def test_a_storage_that_damages_everything_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(*args: object, folder: Path, **others: object) -> None:
        write_tokens(*args, folder=folder, **others)
        flip_one_bit("tokens.bin")(folder)

    monkeypatch.setattr("espalier.data.sequences.write_tokens", spoiled)
    with pytest.raises(RefusedInput, match=r"`storage`.*9 folders"):
        keep_tokens(job_data(tmp_path), "train", tokenizer=LetterTokenizer(), cache=tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(RefusedInput, match="storage"):
        keep_tokens(job_data(tmp_path), "train", tokenizer=LetterTokenizer(), cache=tmp_path / "cache")
