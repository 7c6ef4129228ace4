"""A labelled job small enough for a test: texts whose class is in one of their words, some labels wrong."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import yaml

from support.tiny import write_model

_WORDS = ["the", "king", "queen", "sword", "crown", "night", "speaks", "enters", "and", "of"]
_TELLING = {"good": ["fair", "love"], "bad": ["foul", "hate"]}

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 36,
    "intermediate_size": 53,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "head_dim": None,
    "num_key_value_heads": None,
    "tie_word_embeddings": True,
}


def write_table(path: Path, *, rows: int = 60, wrong: float = 0.1, number: bool = False) -> Path:
    """A csv file with columns id, text, label (good or bad; or a number)."""
    draw = random.Random(7)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for row in range(rows):
            truth = draw.choice(["good", "bad"])
            words = [*draw.choices(_WORDS, k=3), draw.choice(_TELLING[truth]), *draw.choices(_WORDS, k=row % 3)]
            label = truth if draw.random() >= wrong else next(name for name in _TELLING if name != truth)
            writer.writerow([f"s{row:03d}", " ".join(words), {"good": 1.5, "bad": -0.5}[truth] if number else label])
    return path


def labelled_job(root: Path, **changes: Any) -> dict[str, Any]:
    """Vanilla fine-tuning beside self-correction with cross-fitted fold models, on what the functions here wrote."""
    trained = {
        "student": "parent",
        "batch": {"sequences": 8, "microbatch_sequences": 2},
        "optimizer": {"lr": 0.003, "final_lr_ratio": 0.0},
        "zero_level": "none",
    }
    return {
        "name": "tiny",
        "storage": str(root / "runs"),
        "seed": 3,
        "dtype": "float32",
        "workers": {"count": 1},
        "tracking": {"wandb": {"mode": "off"}},
        "data": {
            "task": "classification",
            "train": {"source": "csv", "files": [str(root / "samples.csv")], "id": "id"},
            "valid": {"fraction": 0.25},
            "labels": ["bad", "good"],
            "sequence_tokens": 48,
        },
        "stages": [
            {"name": "parent", "kind": "load", "model": str(root / "model")},
            {"name": "vanilla", "kind": "train", "budget": {"epochs": 2}, "validation": {}, **trained},
            {"name": "twins", "kind": "cross_fit", "folds": 3, "budget": {"epochs": 2}, **trained},
            {
                "name": "corrected",
                "kind": "correct",
                "teacher": "twins",
                "budget": {"epochs": 3},
                "signal": {"own_past": [0.0, 0.5]},
                "weights": {"rate": 0.5},
                "distrust": {"noise": 0.1},  # so few samples show none for certain
                **trained,
            },
            {"name": "scores", "kind": "evaluate", "model": "corrected", "against": ["vanilla"]},
            {"name": "out", "kind": "export", "model": "corrected", "dtype": "float32"},
        ],
        **changes,
    }


def write_labelled_job(root: Path, *, model: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Model, samples and job file below `root`; the path of the job file."""
    write_model(root / "model", **(BERT if model is None else model))
    write_table(root / "samples.csv")
    path = root / "job.yaml"
    path.write_text(yaml.safe_dump(labelled_job(root, **changes)))
    return path
