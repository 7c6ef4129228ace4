"""What is said of a job file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from framework.config.right_job import JOB

Refuse = Callable[..., list[str]]


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """The sentences in which a text (or the right job with overrides) is refused."""

    def said(text: str | bytes = JOB, overrides: Sequence[str] = ()) -> list[str]:
        path = tmp_path / "job.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(RefusedInput) as refused:
            read_job(path, overrides)
        return [str(fault) for fault in refused.value.faults]

    return said
