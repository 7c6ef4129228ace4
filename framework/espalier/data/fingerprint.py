"""Fingerprints of data: hashes of its settings and of the bytes of its files, independent of paths."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Literal

import xxhash

from espalier.config.data import DataConfig, HeldOutConfig, OriginConfig
from espalier.config.format import DataSettings
from espalier.data.files import list_files

Split = Literal["train", "valid"]


def fingerprint(data: DataSettings) -> str:
    """Hash everything that the sequences depend on except the tokenizer, for the keys of stages.

    Files enter by their contents, in the order in which they are read, so a moved folder keeps its hash. Data sets of
    the hub enter by their settings.

    Raises:
        RefusedInput: files that are not there.
    """
    valid = data.valid.fraction if isinstance(data.valid, HeldOutConfig) else _corpus(data.valid, "data.valid")
    settings = data.model_dump(mode="json", exclude={"train", "valid"})
    return _hash([_corpus(data.train, "data.train"), valid, settings])


def fingerprint_of_text(data: DataConfig) -> str:
    """`fingerprint` of running text, whose parts are those that its tokens are kept under."""
    shape = data.model_dump(mode="json", include={"sequence_tokens", "layout", "special_tokens"})
    return _hash([text_fingerprint(data, "train"), text_fingerprint(data, "valid"), shape])


def text_fingerprints(data: DataConfig) -> dict[Split, str]:
    """The fingerprint of each split of a text."""
    return {"train": text_fingerprint(data, "train"), "valid": text_fingerprint(data, "valid")}


def text_fingerprint(data: DataConfig, split: Split) -> str:
    """Hash the text of one split; the other split enters where it decides which documents this one has."""
    train = _corpus(data.train, "data.train")
    if isinstance(data.valid, HeldOutConfig):
        return _hash([split, train, data.valid.fraction])
    valid = _corpus(data.valid, "data.valid")
    return _hash([split, valid] if split == "valid" else [split, train, valid])


def _corpus(corpus: OriginConfig, setting: str) -> dict[str, object]:
    settings = corpus.model_dump(mode="json", exclude={"files"})
    for later, default in (("skip_blank", False), ("cut", None)):  # so that older data keeps its hash
        if later in settings and settings[later] == default:
            del settings[later]
    if corpus.source == "hub":
        return settings
    return settings | {"contents": [digest_of(path) for path in list_files(corpus, setting=setting)]}


def digest_of(path: Path) -> str:
    """Hash the contents of a file."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=65536)  # every stage asks again; a changed file has another modification time
def _digest(path: Path, size: int, modified: int) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _hash(value: object) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())
