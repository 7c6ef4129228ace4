"""What we write is what the library reads, whatever the dtypes and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

from espalier.checkpoint.serialize import safetensors_parts

TENSORS = {
    "odd": torch.arange(7, dtype=torch.float32),
    "half/name@3": torch.arange(11).bfloat16(),
    "double": torch.tensor([1.5, float("nan")], dtype=torch.float64),
    'quoted "é"': torch.ones(3, dtype=torch.float16),
}


@pytest.mark.parametrize("names", [[], ["odd"], list(TENSORS), list(reversed(TENSORS))])
def test_the_library_reads_the_same_bits(tmp_path: Path, names: list[str]) -> None:
    tensors = {name: TENSORS[name] for name in names}
    data = b"".join(safetensors_parts(tensors))
    (tmp_path / "one.safetensors").write_bytes(data)
    for read in (load(data), load_file(tmp_path / "one.safetensors")):
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype
            assert torch.equal(read[name].view(torch.uint8), tensor.view(torch.uint8))


def test_values_are_not_copied() -> None:
    values = torch.zeros(5)
    *_, view = safetensors_parts({"values": values})
    values[0] = 1.0
    assert bytes(view[:4]) == b"\0\0\x80\x3f"
