"""A whole job small enough for a test: a tiny model with a real tokenizer, a little text, the job file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from espalier.models.build import build_initialised
from support.models import LLAMA

_WORDS = [
    "the",
    "king",
    "queen",
    "lord",
    "lady",
    "sword",
    "crown",
    "night",
    "morrow",
    "speaks",
    "enters",
    "exit",
    "love",
    "hate",
    "fair",
    "foul",
    "and",
    "to",
    "of",
    "a",
]


def write_model(folder: Path, *, seed: int = 1, **changes: Any) -> Path:
    """A tiny Llama of random weights in Hugging Face layout; its tokenizer knows bytes."""
    tokenizer = byte_tokenizer()
    config = {**LLAMA, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **changes}
    build_initialised(config, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and an end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["<|end|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def put_around(folder: Path, *, begin: str, end: str | None = None) -> None:
    """Let the tokenizer of a model's folder put tokens that it has around every text, as Llama's and BERT's do."""
    tokens = json.loads((folder / "tokenizer.json").read_text())
    ids = {
        name: {"id": name, "ids": [tokens["model"]["vocab"][name]], "tokens": [name]} for name in (begin, end) if name
    }

    def around(*texts: str) -> list[dict[str, Any]]:
        special = [{"SpecialToken": {"id": name, "type_id": 0}} if name else None for name in (begin, end)]
        inside = [[{"Sequence": {"id": text, "type_id": 0}}, special[1]] for text in texts]
        return [part for part in (special[0], *(part for one in inside for part in one)) if part]

    template = {"type": "TemplateProcessing", "single": around("A"), "pair": around("A", "B"), "special_tokens": ids}
    (folder / "tokenizer.json").write_text(json.dumps(tokens | {"post_processor": template}))


def write_text(folder: Path, *, num_files: int = 12, num_words: int = 220) -> Path:
    """Files of words in random order, the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(5)
    for number in range(num_files):
        text = " ".join(draw.choices(_WORDS, k=num_words + 7 * number))
        (folder / f"work-{number:02d}.txt").write_text(text)
    return folder


def tiny_job(root: Path, **changes: Any) -> dict[str, Any]:
    """A prune-then-distill job on what the two functions above wrote below `root`."""
    return {
        "name": "tiny",
        "storage": str(root / "runs"),
        "seed": 3,
        "dtype": "float32",
        "workers": {"count": 1},
        "tracking": {"wandb": {"mode": "off"}},
        "data": {
            "train": {"source": "text", "files": [str(root / "text" / "*.txt")]},
            "valid": {"fraction": 0.2},
            "sequence_tokens": 32,
        },
        "stages": [
            {"name": "parent", "kind": "load", "model": str(root / "model")},
            {
                "name": "slim",
                "kind": "prune",
                "student": "parent",
                "target": {"layers": 2, "ffn": 37},
                "calibration": {"samples": 8, "microbatch_sequences": 2},
            },
            {
                "name": "heal",
                "kind": "distill",
                "student": "slim",
                "teacher": "parent",
                "budget": {"steps": 6},
                "batch": {"sequences": 8, "microbatch_sequences": 2},
                "optimizer": {"lr": 0.003},
                "zero_level": "none",
                "checkpoint": {"every": 2},
            },
            {
                "name": "score",
                "kind": "evaluate",
                "model": "heal",
                "against": ["parent", "slim"],
                "sequences": 6,
                "prompts": ["the king"],
            },
            {"name": "out", "kind": "export", "model": "heal", "dtype": "float32"},
        ],
        **changes,
    }


def write_job(root: Path, **changes: Any) -> Path:
    """Model, text and job file below `root`; the path of the job file."""
    write_model(root / "model")
    write_text(root / "text")
    path = root / "job.yaml"
    path.write_text(yaml.safe_dump(tiny_job(root, **changes)))
    return path
