"""Training a part of a model: every level on any ranks, gone on elsewhere, is the naive loop of plain torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from espalier.checkpoint.read import StateReader
from espalier.models.families import layout
from espalier.storage.local import LocalStorage
from support.spawn import run_ranks
from support.tuned import (
    INITIAL,
    MODELS,
    PATTERNS,
    Part,
    bytes_of,
    carry_out,
    largest_difference,
    naive,
    save_parents,
    trained,
)

_LEVELS = ("none", "optimizer", "gradients", "parameters")
_NEXT = dict(zip(_LEVELS, (*_LEVELS[2:], *_LEVELS[:2]), strict=True))
_OTHERS = {  # what makes backward stop early, or skip a part of a layer
    "last_layer": ("model.layers.2.*",),
    "middle_mlp": ("model.layers.1.mlp.*",),
    "last_norm": ("model.norm.*",),
    "embedding": ("lm_head.*",),
}
_HALF, _END = 2, 4
CASES = [(model, PATTERNS[model], level, ranks) for model in MODELS for level in _LEVELS for ranks in (1, 2)]
CASES += [("llama", _OTHERS[name], level, 2) for name in _OTHERS for level in ("none", "optimizer", "parameters")]


def _folder(case: tuple[str, tuple[str, ...], str, int], step: int) -> str:
    return f"stages/case-{CASES.index(case)}/step-{step:08d}"


def _first(case: tuple[str, tuple[str, ...], str, int]) -> Part:
    model, patterns, level, _ = case
    return Part(model, patterns, level, INITIAL, _folder(case, _HALF), (0, _HALF), checkpointing=level == "gradients")


def _second(case: tuple[str, tuple[str, ...], str, int]) -> Part:
    model, patterns, level, _ = case
    return Part(model, patterns, _NEXT[level], _folder(case, _HALF), _folder(case, _END), (_HALF, _END))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case on its ranks, then gone on at another level on the other number of ranks."""
    root = tmp_path_factory.mktemp("tuned")
    save_parents(root)
    for ranks in (1, 2):
        run_ranks(carry_out, ranks, str(root), [_first(case) for case in CASES if case[3] == ranks])
    for ranks in (1, 2):
        run_ranks(carry_out, ranks, str(root), [_second(case) for case in CASES if case[3] != ranks])
    return root


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1][0]}-{case[2]}-{case[3]}")
def test_is_the_naive_loop(root: Path, case: tuple[str, tuple[str, ...], str, int]) -> None:
    model, patterns, _, _ = case
    names, storage = trained(model, patterns), LocalStorage(root / model)
    parent = StateReader.open(storage, INITIAL)
    for step in (_HALF, _END):
        reader, wanted = StateReader.open(storage, _folder(case, step)), naive(model, patterns, steps=step)
        found = {name: reader.tensor("parameter", name) for name in reader.names("parameter")}
        assert found.keys() == wanted.keys() == layout(MODELS[model]).keys()
        assert largest_difference(found, wanted, names) < 1e-5
        frozen = found.keys() - names
        assert all(torch.equal(found[name], parent.tensor("parameter", name)) for name in frozen)


@pytest.mark.parametrize("case", CASES[:8], ids=str)
def test_holds_what_is_trained_and_no_more(root: Path, case: tuple[str, tuple[str, ...], str, int]) -> None:
    model, patterns, _, _ = case
    names, storage, parameters = trained(model, patterns), LocalStorage(root / model), layout(MODELS[model])
    manifest = StateReader.open(storage, _folder(case, _HALF)).manifest
    assert all(records.keys() == names for records in manifest.tensors.values()) and len(manifest.tensors) == 3
    files = sum(record.num_bytes for record in manifest.files.values())
    values = 3 * 4 * sum(parameters[name].num_elements for name in names)
    header = 200 * 3 * len(names) * manifest.origin.world_size
    assert values <= files <= values + header
    assert bytes_of(storage, INITIAL) > 4 * sum(one.num_elements for one in parameters.values())


def test_moments_are_the_loops_too(root: Path) -> None:
    """The states of all cases of one model agree with each other in every moment."""
    storage = LocalStorage(root / "llama")
    one, *others = [StateReader.open(storage, _folder(case, _END)) for case in CASES if case[1] == PATTERNS["llama"]]
    for other in others:
        for slot in ("exp_avg", "exp_avg_sq"):
            for name in trained("llama", PATTERNS["llama"]):
                wanted = one.tensor(slot, name)
                assert float((other.tensor(slot, name) - wanted).norm() / wanted.norm()) < 1e-5
