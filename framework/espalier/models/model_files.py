"""The files of a model beside its weights: tokenizer, chat template, generation settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import replace_folder, unfinished
from espalier.storage.local import LocalStorage
from espalier.storage.published import read_published

CONFIG = "config.json"
TOKENIZER_SETTINGS = "tokenizer_config.json"
SETTINGS = (TOKENIZER_SETTINGS, "special_tokens_map.json", "generation_config.json")
KEPT = (
    *SETTINGS,
    "tokenizer.json",
    "tokenizer.model",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
MAX_BYTES = 128 * 2**20
"""Of one file; the largest tokenizers that are published have a quarter of it."""
_OF_CODE = ("auto_map", "custom_generate", "custom_pipelines", "trust_remote_code")
_OF_PLACES = ("name_or_path", "_name_or_path", "_commit_hash")

ModelFiles = Mapping[str, bytes]
"""Name -> content. Of `config.json` there is only what tells stock code which tokenizer class to take."""


def read_model_files(folder: Path, *, setting: str) -> dict[str, bytes]:
    """The files of a published model, without what asks for code that comes with it or names places on a disk.

    Args:
        setting: that names the folder, for messages.

    Raises:
        RefusedInput: links out of the folder, what is no plain file, files too large, settings that are no JSON; all
            files at once.
    """
    found: dict[str, bytes] = {}
    faults: list[Fault] = []
    for name in (*KEPT, CONFIG):
        try:
            found[name] = read_published(folder, name, max_bytes=MAX_BYTES)
            if name in SETTINGS:
                found[name] = _written(without_code(_read_object(found[name])))
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            given = f"names {folder}, whose `{name}` is {_reason(error)}"
            faults.append(Fault(setting, str(folder), "a folder with plain, whole files of its own", given=given))
    if faults:
        raise RefusedInput(faults)
    if CONFIG in found:
        found[CONFIG] = _class_names(found[CONFIG])
    return found


def files_key(files: ModelFiles) -> str:
    """Hash of a model's files: 16 hex digits, other ones when any file has other content."""
    digest = xxhash.xxh3_128()
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest()[:16]


def encoding_key(folder: Path) -> str:
    """Hash of what the encoding of text depends on, of files that `write_model_files` wrote."""
    apart = ("chat_template.jinja", "generation_config.json")
    return files_key({name: content for name, content in _contents(folder).items() if name not in apart})


def write_model_files(files: ModelFiles, target: Path) -> None:
    """Write a model's files as a folder, whole or not at all.

    Nothing is written where they are there already: they may belong to a stage that is done.
    """
    if target.is_dir() and _contents(target) == files:
        return
    storage, made = LocalStorage(target.parent), unfinished(target.name)
    storage.make_folder(made)
    for name, content in files.items():
        storage.write_bytes(f"{made}/{name}", content)
    storage.sync_folder(made)
    replace_folder(storage, made, target.name)


def require_key(folder: Path, key: str) -> None:
    """Refuse the files in a run's folder unless they have the key they were written under: others may write there.

    Raises:
        RefusedInput: they are other files by now.
    """
    if not folder.is_dir() or files_key(read_model_files(folder, setting=str(folder))) != key:
        allowed = "the files that the model came with; the run begins anew with resume=never"
        raise RefusedInput([Fault(str(folder), None, allowed, given="holds other files than this run put there")])


def without_code(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model without keys that ask for code beside it, or that name files on another machine."""
    kept = {name: value for name, value in settings.items() if name not in (*_OF_CODE, *_OF_PLACES)}
    return {name: value for name, value in kept.items() if not name.endswith("_file")}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _class_names(config: bytes) -> bytes:
    """A `config.json` of those keys alone that stock code reads when it opens a tokenizer."""
    try:
        settings = _read_object(config)
    except ValueError:  # reported where the model itself is read
        settings = {}
    asked = {name: settings.get(name) for name in ("model_type", "tokenizer_class")}
    return _written({name: value for name, value in asked.items() if isinstance(value, str)})


def _read_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _written(settings: Mapping[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2) + "\n").encode()


def _reason(error: ValueError | OSError) -> str:
    return f"not to be read: {error.strerror}" if isinstance(error, OSError) else str(error)
