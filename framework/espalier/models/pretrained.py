"""Models and tokenizers as others published them: a folder in Hugging Face layout, or a name on the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import xxhash

from espalier.config.faults import Fault, RefusedInput
from espalier.data.tokenizer import Encoded
from espalier.storage.contract import replace_folder, unfinished
from espalier.storage.local import LocalStorage

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
_KEPT = (*_TOKENIZER, "generation_config.json")
_PARALLELISM = "TOKENIZERS_PARALLELISM"  # the library looks at it in every call
_MANY_TEXTS = 64


def find_model(model: str, *, setting: str, revision: str | None = None) -> Path:
    """The folder of a model. A name that is no folder is looked up on the hub and brought into its local cache.

    Raises:
        RefusedInput: neither a folder nor a name that the hub knows.
    """
    folder = Path(model)
    if folder.is_dir():
        return folder
    if model.startswith((".", "/")):
        raise RefusedInput([Fault(setting, model, "a folder with config.json and *.safetensors; this one is missing")])
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = [*_WEIGHTS, *_KEPT, "config.json"]
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        allowed = f"a folder, or a model on the hub that can be reached from here ({reason})"
        raise RefusedInput([Fault(setting, model, allowed)]) from error


def read_config(folder: Path, *, setting: str) -> dict[str, Any]:
    """config.json of a model folder, refused when it asks for code of its own."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RefusedInput([Fault(setting, str(folder), "a folder with a config.json")]) from None
    except ValueError as error:
        raise RefusedInput([Fault(setting, str(path), f"a JSON file ({error})")]) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise RefusedInput([Fault(setting, str(path), "a model configuration, which names its `model_type`")])
    return config


def tokenizer_key(folder: Path) -> str:
    """Hash of what a tokenizer does: two models with the same key read and write the same tokens."""
    files = [name for name in ("tokenizer.json", "tokenizer.model") if (folder / name).exists()][:1]
    digest = xxhash.xxh3_128()
    for name in files or ("vocab.json", "merges.txt", "vocab.txt"):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def copy_tokenizer(source: Path, target: Path) -> None:
    """Bring a tokenizer's files (and generation settings) into another folder, whole or not at all.

    Nothing is written where they are there already: they may belong to a stage that is done.
    """
    wanted = _contents(source)
    if target.is_dir() and _contents(target) == wanted:
        return
    files, made = LocalStorage(target.parent), unfinished(target.name)
    files.make_folder(made)
    for name, content in wanted.items():
        files.write_bytes(f"{made}/{name}", content)
    files.sync_folder(made)
    replace_folder(files, made, target.name)


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _KEPT if (folder / name).exists()}


class PretrainedTokenizer:
    """A tokenizer from a folder; see `espalier.data.tokenizer.Tokenizer` for the contract."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.key = tokenizer_key(folder)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        self._tokenizer.model_max_length = 10**30  # long documents are cut by us; its warning helps nobody
        self.vocabulary: int = len(self._tokenizer)
        self.eos_id: int | None = self._tokenizer.eos_token_id
        self.mask_id: int | None = self._tokenizer.mask_token_id

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens; many texts take all cores."""
        with _parallel() if len(texts) >= _MANY_TEXTS else nullcontext():
            return self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]

    def encode_samples(self, texts: Sequence[str], pairs: Sequence[str] | None, *, max_tokens: int) -> list[Encoded]:
        """See `espalier.data.tokenizer.LabelledTokenizer`."""
        made = self._tokenizer(
            list(texts), None if pairs is None else list(pairs), truncation="longest_first", max_length=max_tokens
        )
        segments = made.get("token_type_ids") or [None] * len(texts)
        return [Encoded(ids, kinds) for ids, kinds in zip(made["input_ids"], segments, strict=True)]

    @property
    def padding_id(self) -> int | None:
        """What published classifiers fill short rows with: the padding token, or the end of text."""
        return self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else self.eos_id

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)


@contextmanager
def _parallel() -> Iterator[None]:
    """Tokenise with threads inside; outside of it a fork finds them off, and neither warns nor waits for them."""
    before = os.environ.get(_PARALLELISM)
    os.environ[_PARALLELISM] = "true"
    try:
        yield
    finally:
        os.environ[_PARALLELISM] = "false" if before is None else before
