"""From the job's data settings to the numbered sequences that a stage trains on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import xxhash

from espalier.config.data import DataConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.fingerprint import Split, text_fingerprint
from espalier.data.packing import DocumentSequences, PackedSequences, Sequences
from espalier.data.split import split_documents
from espalier.data.token_files import Tokens, UntrustedTokens, open_tokens
from espalier.data.tokenizer import Tokenizer
from espalier.data.tokens import write_tokens

_FORMAT = 2
_MAX_FOLDERS = 9
"""Number of cache folders to try for the same tokens: a damaged one, or another user's, is left as it is."""


def open_sequences(
    data: DataConfig, split: Split, *, tokenizer: Tokenizer, cache: Path, kept: str | None = None
) -> Sequences:
    """Open the sequences of one split; text is tokenised on first use and mapped from `cache` later.

    Args:
        data: corpora, length and layout of sequences.
        split: for `valid` the last, shorter block of layout packed is kept.
        tokenizer: makes the ids.
        cache: folder of cached tokens.
        kept: the folder name that `keep_tokens` returned in a process of this run, which has verified it; None: call
            it.

    Raises:
        RefusedInput: text that cannot be read, or too little of it for one sequence.
    """
    folder = cache / (kept or keep_tokens(data, split, tokenizer=tokenizer, cache=cache))
    try:
        tokens = open_tokens(folder, vocabulary=tokenizer.vocabulary, verify=kept is None)
    except UntrustedTokens as error:
        raise RefusedInput([_changed(folder, str(error))]) from error
    if tokens is None:
        raise RefusedInput([_changed(folder, "they are not there")])
    sequences = _cut(data, split, tokens)
    if len(sequences) == 0:
        allowed = f"at most the {len(tokens.ids)} tokens of `data.{split}`; or give more text"
        raise RefusedInput([Fault("data.sequence_tokens", data.sequence_tokens, allowed)])
    return sequences


def keep_tokens(
    data: DataConfig,
    split: Split,
    *,
    tokenizer: Tokenizer,
    cache: Path,
    planned: str | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
    on_distrust: Callable[[str], None] = lambda text: None,
) -> str:
    """Find the tokens of a split in `cache` and check their hashes, or make them; the name of their folder.

    A folder that is damaged or another user's is left untouched, and the tokens are made in another folder. Processes
    that call this at the same time each do the work, so let one call it first.

    Args:
        planned: the text's fingerprint when the run was planned. Files are then read only if tokens are to be made.
        on_progress: called now and then with the number of documents tokenised.
        on_distrust: called with a sentence about each folder that is not used.

    Raises:
        RefusedInput: text that cannot be read or that is not what was planned; no folder left to make tokens in.
    """
    text = planned or text_fingerprint(data, split)
    words = [_FORMAT, text, tokenizer.key, tokenizer.vocabulary, tokenizer.eos_id]
    name = xxhash.xxh3_128_hexdigest(repr(words).encode())
    for number in range(1, _MAX_FOLDERS + 1):
        folder = cache / (name if number == 1 else f"{name}.{number}")
        try:
            if open_tokens(folder, vocabulary=tokenizer.vocabulary) is None:
                if text_fingerprint(data, split) != text:
                    raise RefusedInput([_other_text(split)])
                texts = split_documents(data, split)
                write_tokens(texts, tokenizer, folder=folder, setting=f"data.{split}", on_progress=on_progress)
                open_tokens(folder, vocabulary=tokenizer.vocabulary)
            return folder.name
        except UntrustedTokens as error:
            on_distrust(f"the tokens kept in {folder} are not used, as {error}; they are made anew beside it")
        except PermissionError as error:
            allowed = "a storage whose folder .cache this user can write to"
            raise RefusedInput([Fault("storage", str(cache), allowed, given=f"refuses a file: {error}")]) from error
    allowed = f"a place for the tokens of `data.{split}`; {_MAX_FOLDERS} folders there do not hold what was written"
    raise RefusedInput([Fault("storage", str(cache), f"{allowed}, so see who changes them, and delete them")])


def _other_text(split: Split) -> Fault:
    allowed = "files as they were when this run was planned, the same on all hosts; start it again to plan it anew"
    return Fault(f"data.{split}", None, allowed, given="has files that hold another text")


def _changed(folder: Path, reason: str) -> Fault:
    allowed = "tokens as they were when this run checked them; run the same command again, and they are made anew"
    return Fault("storage", str(folder), allowed, given=f"holds changed tokens in {folder}: {reason}")


def _cut(data: DataConfig, split: Split, tokens: Tokens) -> Sequences:
    if data.layout == "documents":
        return DocumentSequences(tokens, data.sequence_tokens)
    return PackedSequences(tokens, data.sequence_tokens, keep_tail=split == "valid")
