"""Models from random weights: their configuration, and a tokenizer trained on the job's text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from espalier.config.growth import FromScratch
from espalier.data.pieces import pieces
from espalier.models.families.registry import FAMILIES
from espalier.models.shape import ConfigDict

SPECIAL_TOKENS = {"eos_token": "<|end|>", "pad_token": "<|pad|>", "mask_token": "<|mask|>"}
"""Of a tokenizer trained here; their ids are 0, 1 and 2."""


def scratch_config(settings: FromScratch, *, vocabulary: int, eos_id: int | None, pad_id: int | None) -> ConfigDict:
    """The `config.json` of a stock model of this shape."""
    scratch = FAMILIES[settings.family].scratch
    assert scratch is not None, "the settings have refused any other family"
    common: ConfigDict = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": settings.tied,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    return common | scratch.build(settings)


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> None:
    """Make a byte-level BPE (as GPT-2's) of at most `vocabulary` tokens, as a folder; the same text makes the same."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cutting = pre_tokenizers.ByteLevel(add_prefix_space=False)  # one that is trained is locked
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def words(parts: Sequence[str]) -> list[list[str]]:
        return [[word for word, _ in cutting.pre_tokenize_str(part)] for part in parts]

    # What is learnt are counts of words, and a long document has the same words in pieces.
    tokenizer.train_from_iterator((part for text in texts for part in pieces(text, words)), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS).save_pretrained(folder)
