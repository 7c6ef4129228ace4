"""Find and open published models and tokenizers: a folder in Hugging Face layout, or a name on the hub."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from espalier.config.data import SpecialTokens
from espalier.config.faults import Fault, RefusedInput
from espalier.data.tokenizer import Encoded
from espalier.models.model_files import CONFIG, KEPT, MAX_BYTES, ModelFiles, encoding_key
from espalier.storage.published import read_published

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_FOUND_ANYWHERE = ("a", "1", ".", "the")
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
        patterns = [*_WEIGHTS, *KEPT, CONFIG]
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        allowed = f"a folder, or a model on the hub that can be reached from here ({reason})"
        raise RefusedInput([Fault(setting, model, allowed)]) from error


def read_config(folder: Path, *, setting: str) -> dict[str, Any]:
    """config.json of a model folder, refused when it asks for code of its own."""
    path = folder / CONFIG
    try:
        config = json.loads(read_published(folder, CONFIG, max_bytes=MAX_BYTES))
    except FileNotFoundError:
        raise RefusedInput([Fault(setting, str(folder), "a folder with a config.json")]) from None
    except (ValueError, RecursionError) as error:
        raise RefusedInput([Fault(setting, str(path), f"a plain JSON file of the folder's own ({error})")]) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise RefusedInput([Fault(setting, str(path), "a model configuration, which names its `model_type`")])
    return config


def open_tokenizer(
    files: ModelFiles, *, folder: str, setting: str, special_tokens: SpecialTokens = "own"
) -> PretrainedTokenizer:
    """The tokenizer that a model's files make, as a run will open it.

    Args:
        folder: where they come from, and setting: that names it; for messages.

    Raises:
        RefusedInput: stock code makes no tokenizer of them.
    """
    if not any(name in files for name in _VOCABULARIES):  # stock code would make one of three words
        raise RefusedInput([Fault(setting, folder, f"a folder with a tokenizer: {', '.join(_VOCABULARIES)}")])
    with tempfile.TemporaryDirectory() as made:
        for name, content in files.items():
            (Path(made) / name).write_bytes(content)
        try:
            return PretrainedTokenizer(Path(made), special_tokens=special_tokens)
        except BaseException as error:  # stock code raises whatever its parts do; those in Rust panic outside Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].replace(made, "the folder")
            given = f"names {folder}, whose tokenizer stock transformers cannot open ({reason[:200]})"
            allowed = "a folder with whole tokenizer files, as `save_pretrained` of its tokenizer writes them"
            raise RefusedInput([Fault(setting, folder, allowed, given=given)]) from None


class PretrainedTokenizer:
    """A tokenizer from a folder; see `espalier.data.tokenizer.Tokenizer` for the contract."""

    def __init__(self, folder: Path, *, special_tokens: SpecialTokens = "own") -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        self._tokenizer.model_max_length = 10**30  # long documents are cut by us; its warning helps nobody
        self.vocabulary: int = max(self._tokenizer.get_vocab().values(), default=-1) + 1  # ids may have holes
        self.eos_id: int | None = self._tokenizer.eos_token_id
        self.pad_id: int | None = self._tokenizer.pad_token_id
        self.mask_id: int | None = self._tokenizer.mask_token_id
        begin, end = self._around() if special_tokens == "own" else ((), ())
        self.begin_ids: tuple[int, ...] = begin
        self.end_ids: tuple[int, ...] = end or (() if self.eos_id is None else (self.eos_id,))
        self.key = f"{encoding_key(folder)} {self.begin_ids} {self.end_ids}"

    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that the tokenizer puts before and after a text by default."""
        for text in _FOUND_ANYWHERE:
            (bare,), whole = self.encode([text]), self._tokenizer(text)["input_ids"]
            for start in range(len(whole) - len(bare) + 1):
                if bare and whole[start : start + len(bare)] == bare:
                    return tuple(whole[:start]), tuple(whole[start + len(bare) :])
        return (), ()

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

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of a prompt, after the special tokens that begin a document."""
        return [*self.begin_ids, *self.encode([prompt])[0]]

    @property
    def padding_id(self) -> int | None:
        """What published classifiers fill short rows with: the padding token, or the end of text."""
        return self.pad_id if self.pad_id is not None else self.eos_id

    def words(self) -> dict[str, int]:
        """Each token of the vocabulary, and its id."""
        return self._tokenizer.get_vocab()

    def names(self, ids: Sequence[int]) -> list[str]:
        """The token of each id."""
        words = self._tokenizer.convert_ids_to_tokens(list(ids))
        assert isinstance(words, list)
        return words

    def special_words(self) -> list[str]:
        """Added tokens, which the tokenizer finds in a text before it splits it."""
        return [str(token) for token in self._tokenizer.added_tokens_decoder.values()]

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text


@contextmanager
def _parallel() -> Iterator[None]:
    """Let the tokenizer use threads inside. Outside they are off: a forked process neither warns nor deadlocks."""
    before = os.environ.get(_PARALLELISM)
    os.environ[_PARALLELISM] = "true"
    try:
        yield
    finally:
        os.environ[_PARALLELISM] = "false" if before is None else before
