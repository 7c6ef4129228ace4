"""Without the wait for the disk: what these tests lose is a process, never the power. And stores to save to."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoint_stores import S3, serving

from espalier.storage import objects


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as store:
        yield store


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PAUSES_SECONDS", (0.001, 0.001, 0.001))


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def bucket(s3: S3) -> Iterator[str]:
    yield f"s3://bucket/{uuid.uuid4().hex}"
    s3.trouble = lambda environ: None


@pytest.fixture(params=["local", "memory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue(request.param)
