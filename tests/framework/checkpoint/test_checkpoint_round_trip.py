"""What was written in any fragments is read in any runs."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from checkpoint_cases import SHAPES, cut, make_tensors, save_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.read import StateReader
from espalier.storage.local import LocalStorage

FOLDER = "stages/heal/step-00000500"


@st.composite
def random_ranks(draw: st.DrawFn) -> list[list[Fragment]]:
    """The state in random runs on random ranks, in random order."""
    num_ranks = draw(st.integers(1, 5))
    ranks: list[list[Fragment]] = [[] for _ in range(num_ranks)]
    for (slot, name), tensor in make_tensors(3).items():
        inner = draw(st.sets(st.integers(1, max(1, tensor.numel() - 1)), max_size=6))
        ends = sorted({0, tensor.numel()} | {end for end in inner if end < tensor.numel()})
        for start, end in pairwise(ends):
            rank = draw(st.integers(0, num_ranks - 1))
            ranks[rank].append(Fragment(slot, name, start, tensor.flatten()[start:end]))
    return [draw(st.permutations(held)) for held in ranks]


@settings(max_examples=40, deadline=None)
@given(ranks=random_ranks(), max_file_bytes=st.integers(40, 400), data=st.data())
def test_any_fragments_read_back_in_any_runs(ranks, max_file_bytes, data) -> None:
    with tempfile.TemporaryDirectory() as root:
        storage = LocalStorage(Path(root))
        save_ranks(storage, FOLDER, ranks=ranks, max_file_bytes=max_file_bytes)
        reader = StateReader.open(storage, FOLDER)
        for (slot, name), tensor in make_tensors(3).items():
            assert torch.equal(reader.tensor(slot, name), tensor)
            offset = data.draw(st.integers(0, tensor.numel()))
            length = data.draw(st.integers(0, tensor.numel() - offset))
            part = reader.read(slot, name, offset=offset, length=length)
            assert torch.equal(part, tensor.flatten()[offset : offset + length])


def test_the_manifest_tells_what_was_saved(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    manifest = save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=3))
    reader = StateReader.open(storage, FOLDER)
    assert reader.manifest == manifest
    assert reader.shapes == SHAPES
    assert set(reader.slots) == {"parameter", "exp_avg", "exp_avg_sq"}
    assert set(reader.names("exp_avg")) == set(SHAPES)
    assert reader.manifest.state == {"position": 1500, "streams": {"order": [1, 2]}}
    assert reader.manifest.origin.world_size == 3


def test_a_fresh_optimizer_has_no_moments(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    save_ranks(storage, FOLDER, ranks=cut(make_tensors(1, slots=("parameter",)), num_ranks=2))
    reader = StateReader.open(storage, FOLDER)
    assert reader.slots == ("parameter",)
    assert reader.names("exp_avg") == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    storage = LocalStorage(tmp_path)
    tensors = {key: tensor.to(dtype) for key, tensor in make_tensors(2).items()}
    save_ranks(storage, FOLDER, ranks=cut(tensors, num_ranks=2))
    reader = StateReader.open(storage, FOLDER)
    assert reader.dtype("exp_avg", "scale") == dtype
    assert all(torch.equal(reader.tensor(*key), tensor) for key, tensor in tensors.items())


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=1))
    reader = StateReader.open(storage, FOLDER)
    reader.tensor("parameter", "body.bias").fill_(0.0)
    assert torch.equal(reader.tensor("parameter", "body.bias"), make_tensors(1)["parameter", "body.bias"])


def test_files_stay_below_their_bound(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    large = save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=1), max_file_bytes=2**20)
    assert len(large.files) == 1
    small = save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=1), max_file_bytes=80)
    header_bytes = 600
    assert len(small.files) >= 3 * (5 * 7 + 11 + 1) * 4 // 80
    assert all(record.num_bytes <= 80 + header_bytes for record in small.files.values())
