"""Models that begin with random weights: their configuration, and a tokenizer made from the text they will read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from espalier.config.growth import FromScratch
from espalier.data.pieces import pieces
from espalier.models.shape import ConfigDict

SPECIAL_TOKENS = {"eos_token": "<|end|>", "pad_token": "<|pad|>", "mask_token": "<|mask|>"}
"""Of a tokenizer trained here; their ids are 0, 1 and 2."""


def scratch_config(settings: FromScratch, *, vocabulary: int, eos_id: int | None, pad_id: int | None) -> ConfigDict:
    """The `config.json` of a stock model of this shape."""
    common: ConfigDict = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": settings.tied,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    return common | {"llama": _llama, "gpt2": _gpt2, "bert": _bert}[settings.family](settings)


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


def _llama(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": settings.layers,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.ffn or -(-8 * settings.hidden // 192) * 64,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads or settings.heads,
        "max_position_embeddings": settings.positions,
    }


def _gpt2(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": settings.layers,
        "n_embd": settings.hidden,
        "n_inner": settings.ffn or 4 * settings.hidden,
        "n_head": settings.heads,
        "n_positions": settings.positions,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.dropout),
    }


def _bert(settings: FromScratch) -> ConfigDict:
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "num_hidden_layers": settings.layers,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.ffn or 4 * settings.hidden,
        "num_attention_heads": settings.heads,
        "max_position_embeddings": settings.positions,
        **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout),
    }
