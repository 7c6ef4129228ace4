"""Copies are of the moment, and their room is used again whatever came before."""

from __future__ import annotations

import pytest
import torch

from espalier.checkpoint.fragments import Fragment
from espalier.saving import host_staging
from espalier.saving.host_staging import HostStaging


def fragments(*sizes: int, start: float = 0.0) -> list[Fragment]:
    return [
        Fragment("parameter", f"p{number}", 0, torch.arange(size, dtype=torch.float32) + start + number)
        for number, size in enumerate(sizes)
    ]


def test_copies_do_not_change_when_the_state_does() -> None:
    live = fragments(7, 3)
    taken = HostStaging(torch.device("cpu")).take(live)
    expected = [one.values.clone() for one in live]
    for one in live:
        one.values.fill_(-1.0)
    assert all(torch.equal(one.values, values) for one, values in zip(taken, expected, strict=True))


@pytest.mark.parametrize("chunk_bytes", [64, 2**30])
def test_buffers_grow_for_a_larger_state(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    monkeypatch.setattr(host_staging, "_CHUNK_BYTES", chunk_bytes)
    held = HostStaging(torch.device("cpu"))
    for sizes in ((5,), (5, 11, 2, 13), (40, 1), (5,)):
        live = fragments(*sizes, start=sum(sizes))
        taken = held.take(live)
        for one in live:
            parts = [part for part in taken if part.name == one.name]
            assert torch.equal(torch.cat([part.values for part in parts]), one.values)
            assert [part.offset for part in parts] == sorted({part.offset for part in parts})
