"""Tiny models built from a configuration; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.models.build import build_initialised
from espalier.storage.local import LocalStorage

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 36,  # no multiple of anything a kernel or a partition would like
    "intermediate_size": 53,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": 131,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 0,
}


def save_initial(root: Path, folder: str, config: dict[str, Any], *, seed: int) -> StateReader:
    """A committed state of seeded random weights."""
    model, storage = build_initialised(config, seed=seed), LocalStorage(root)
    named = dict(model.named_parameters())
    begin(storage, folder, attempt=0)
    fragments = (Fragment("parameter", name, 0, value.detach().reshape(-1)) for name, value in named.items())
    written = write_fragments(storage, folder, fragments=fragments, rank=0, attempt=0)
    origin = Origin(stage="initial", step=0, attempt=0, world_size=1, zero_level="none", model=config)
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    commit(storage, folder, origin=origin, shapes=shapes, state={}, ranks=[written])
    return StateReader.open(storage, folder)
