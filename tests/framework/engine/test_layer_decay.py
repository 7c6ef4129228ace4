"""Lower layers learn more slowly, alike under every engine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import torch

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.distributed.world import World
from espalier.engine.adamw import rate_scales
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step
from support.architectures import CONFIGS
from support.invariance import save_models, sequences_of
from support.spawn import run_ranks


def test_rates_fall_from_the_head_to_the_embeddings() -> None:
    scales = rate_scales(CONFIGS["bert_classifier"], 0.5)  # three layers
    assert scales["classifier.weight"] == scales["bert.pooler.dense.bias"] == 1.0
    assert [scales[f"bert.encoder.layer.{i}.output.dense.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert scales["bert.embeddings.word_embeddings.weight"] == scales["bert.embeddings.LayerNorm.bias"] == 0.0625
    assert set(rate_scales(CONFIGS["llama"], 1.0).values()) == {1.0}


def moved(world: World, root: str, level: ZeroLevel, decay: float) -> dict[str, float]:
    """How far the first step of Adam moves each parameter at most: its rate, without weight decay."""
    optimizer = OptimizerConfig(lr=1e-3, layer_decay=decay, weight_decay=0.0, eps=1e-12, clip=1e9)
    reader = StateReader.open(LocalStorage(Path(root)), "untied")
    microbatches = sequences_of(2, world)
    spec = EngineSpec(level, torch.float32, optimizer, len(microbatches))
    terms = (Term.of("cross_entropy"),)
    objective = TokenObjective(terms)
    with closing(open_engine(spec, objective, reader, steps_taken=0, world=world)) as engine:
        take_step(engine, None, microbatches, objective=objective, lr=1e-3, random=(0, 0), world=world)
        return {
            piece.name: float(
                (piece.values - reader.read("parameter", piece.name, offset=piece.offset, length=piece.values.numel()))
                .abs()
                .max()
            )
            for piece in engine.fragments()
            if piece.slot == "parameter"
        }


@pytest.mark.parametrize("level", ["none", "optimizer", "gradients", "parameters"])
def test_every_level_keeps_the_rates(tmp_path: Path, level: ZeroLevel) -> None:
    save_models(tmp_path)
    found = run_ranks(moved, 1, str(tmp_path), level, 0.5)[0]
    assert found["lm_head.weight"] == pytest.approx(1e-3, rel=1e-3)
    for layer, rate in enumerate([1.25e-4, 2.5e-4, 5e-4]):
        assert found[f"model.layers.{layer}.mlp.up_proj.weight"] == pytest.approx(rate, rel=2e-3)
    assert found["model.embed_tokens.weight"] == pytest.approx(6.25e-5, rel=5e-3)
