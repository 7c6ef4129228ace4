"""Tokenise text into a folder of the cache: one array of ids that every process maps into memory."""

from __future__ import annotations

import os
import secrets
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from espalier.config.faults import Fault, RefusedInput
from espalier.data.pieces import encoded
from espalier.data.token_files import OFFSET_DTYPE, OFFSETS, RECORD, TOKENS, TokenRecord
from espalier.data.tokenizer import Tokenizer


def write_tokens(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    *,
    folder: Path,
    setting: str,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Tokenise `texts` into `folder`, which appears complete or not at all.

    Processes that do this at the same time each do the work; the folder of the first to end is kept. Memory is bounded
    by a few times the longest document, and eight bytes a document.

    Args:
        texts: the documents.
        tokenizer: its ids must lie below its vocabulary.
        folder: to be made.
        setting: the path of the text in the job file, for messages.
        on_progress: called now and then with the number of documents done.

    Raises:
        RefusedInput: no text, or ids outside the vocabulary.
    """
    dtype = np.dtype("<u2" if tokenizer.vocabulary <= 2**16 else "<u4")
    ends = array("q", [0])
    digest = xxhash.xxh3_128()
    with _appearing(folder) as made:
        with open(made / TOKENS, "wb") as file:
            for ids in _encode(texts, tokenizer, lambda: on_progress(len(ends) - 1)):
                content = ids.astype(dtype).tobytes()
                file.write(content)
                digest.update(content)
                ends.append(ends[-1] + len(ids))
        if ends[-1] == 0:
            allowed = "text that leaves this split something (documents of `data.valid` are no part of training)"
            raise RefusedInput([Fault(setting, "empty", allowed)])
        offsets = np.frombuffer(ends, dtype=np.int64).astype(OFFSET_DTYPE).tobytes()
        (made / OFFSETS).write_bytes(offsets)
        record = TokenRecord(
            dtype="uint16" if dtype.itemsize == 2 else "uint32",
            vocabulary=tokenizer.vocabulary,
            num_tokens=ends[-1],
            num_documents=len(ends) - 1,
            tokens_xxh3=digest.hexdigest(),
            offsets_xxh3=xxhash.xxh3_128_hexdigest(offsets),
        )
        (made / RECORD).write_text(record.model_dump_json(indent=2))


def _encode(texts: Iterable[str], tokenizer: Tokenizer, on_call: Callable[[], None]) -> Iterator[NDArray[np.int32]]:
    def encode(call: Sequence[str]) -> list[list[int]]:
        on_call()
        return tokenizer.encode(call)

    begin, end = (np.array(around, dtype=np.int32) for around in (tokenizer.begin_ids, tokenizer.end_ids))
    for ids in encoded(texts, encode):
        if not len(ids):
            continue
        document = np.concatenate([begin, ids, end])
        low, high = int(document.min()), int(document.max())
        if low < 0 or high >= tokenizer.vocabulary:
            allowed = f"token ids below {tokenizer.vocabulary}; take the tokenizer that belongs to the model"
            raise RefusedInput([Fault("tokenizer", low if low < 0 else high, allowed)])
        yield document


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder that is synced and renamed to `folder` at the end, and removed after an error."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder.with_name(f"{folder.name}.partial-{secrets.token_hex(4)}")
    made.mkdir(mode=0o700)
    try:
        yield made
        for path in (*made.iterdir(), made):
            _sync(path)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():
                raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
