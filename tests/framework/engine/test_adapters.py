"""Training what is added to a model: every level on any ranks, gone on elsewhere, is the naive loop of plain torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.models.families import layout
from espalier.storage.local import LocalStorage
from support.lora_plugin.espalier_lora.adapter import LowRank
from support.spawn import run_ranks
from support.tuned import INITIAL, MODELS, Part, carry_out, largest_difference, naive, save_parents, trained

_LEVELS = ("none", "optimizer", "gradients", "parameters")
_NEXT = dict(zip(_LEVELS, (*_LEVELS[2:], *_LEVELS[:2]), strict=True))
_TARGETS = {"llama": ("q_proj", "v_proj"), "gpt2": ("c_attn",)}
_NORMS = ("*norm*",)
_HALF, _END = 2, 4
Case = tuple[str, tuple[str, ...], str, int]
CASES: list[Case] = [("llama", (), level, ranks) for level in _LEVELS for ranks in (1, 2)]
CASES += [("gpt2", (), level, 2) for level in _LEVELS]  # gone on with one rank, at every level, too
CASES += [("llama", _NORMS, "parameters", 2)]


def adapters_of(model: str) -> LowRank:
    config, words = MODELS[model], _TARGETS[model]
    targets = [name for name in layout(config) if name.endswith(tuple(f".{word}.weight" for word in words))]
    return LowRank(config, tuple(targets), rank=3, scale=2.0, up_rate=4.0)


def _folder(case: Case, step: int) -> str:
    return f"stages/case-{CASES.index(case)}/step-{step:08d}"


def _first(case: Case) -> Part:
    model, patterns, level, ranks = case
    checkpointing = level == "gradients" or (level == "parameters" and ranks == 2)
    steps, adapters = (0, _HALF), adapters_of(model)
    return Part(model, patterns, level, INITIAL, _folder(case, _HALF), steps, checkpointing, adapters=adapters)


def _second(case: Case) -> Part:
    model, patterns, level, _ = case
    source, target = _folder(case, _HALF), _folder(case, _END)
    return Part(model, patterns, _NEXT[level], source, target, (_HALF, _END), adapters=adapters_of(model))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case on its ranks, then gone on at another level on the other number of ranks."""
    root = tmp_path_factory.mktemp("adapters")
    save_parents(root)
    for ranks in (1, 2):
        run_ranks(carry_out, ranks, str(root), [_first(case) for case in CASES if case[3] == ranks])
    for ranks in (1, 2):
        run_ranks(carry_out, ranks, str(root), [_second(case) for case in CASES if case[3] != ranks])
    return root


@cache
def _wanted(model: str, patterns: tuple[str, ...], step: int) -> dict[str, Tensor]:
    return naive(model, patterns, steps=step, adapters=adapters_of(model))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{len(case[1])}-{case[2]}-{case[3]}")
def test_is_the_naive_loop(root: Path, case: Case) -> None:
    model, patterns, _, _ = case
    names, storage = trained(model, patterns), LocalStorage(root / model)
    added = adapters_of(model).parameters.keys()
    parent = StateReader.open(storage, INITIAL)
    for step in (_HALF, _END):
        reader, wanted = StateReader.open(storage, _folder(case, step)), _wanted(model, patterns, step)
        found = {name: reader.tensor("parameter", name) for name in wanted}
        assert largest_difference(found, wanted, names | added) < 1e-5
        assert not added & set(reader.shapes)
        frozen = reader.shapes.keys() - names
        assert all(torch.equal(found[name], parent.tensor("parameter", name)) for name in frozen)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{len(case[1])}-{case[2]}-{case[3]}")
def test_holds_what_is_trained_and_no_more(root: Path, case: Case) -> None:
    model, patterns, _, _ = case
    added, parameters = adapters_of(model).parameters, layout(MODELS[model])
    names = trained(model, patterns)
    manifest = StateReader.open(LocalStorage(root / model), _folder(case, _HALF)).manifest
    assert all(records.keys() == names | added.keys() for records in manifest.tensors.values())
    assert len(manifest.tensors) == 3 and manifest.beside.keys() == added.keys()
    files = sum(record.num_bytes for record in manifest.files.values())
    values = 12 * sum(one.num_elements for one in (*added.values(), *(parameters[name] for name in names)))
    assert values <= files <= values + 200 * 3 * len(names | added.keys()) * manifest.origin.world_size
