"""A data set of the hub that cannot be reached is refused by the plan, soon and in a sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from espalier.config.data import CorpusConfig
from espalier.config.faults import RefusedInput
from espalier.data import hub
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from support.labelled import labelled_job, write_labelled_job
from support.tiny import write_job

HUB = {"source": "hub", "dataset": "owner/name"}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A machine without a network and without a cache: what is asked for all the same."""
    asked: list[str] = []

    def dataset_info(self: Any, name: str, *, revision: str | None, timeout: float) -> None:
        asked.append(name)
        raise TypeError("[Errno -2] Name or service not known")  # of a network library that is no OSError

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked for half a minute"))
    return asked


def test_a_plan_of_text_refuses_it(tmp_path: Path, nowhere: list[str]) -> None:
    job = read_job(write_job(tmp_path, data={"train": HUB, "valid": {"fraction": 0.2}, "sequence_tokens": 32}))
    with pytest.raises(RefusedInput, match=r"`data\.train\.dataset` is 'owner/name'.*can be reached.*not known"):
        prepare(job)
    assert nowhere == ["owner/name"]


def test_a_plan_of_labelled_data_refuses_it(tmp_path: Path) -> None:
    data = labelled_job(tmp_path)["data"]
    job = read_job(write_labelled_job(tmp_path, data={**data, "valid": HUB}))
    with pytest.raises(RefusedInput, match=r"`data\.valid\.dataset` is 'owner/name'.*can be reached"):
        prepare(job)


def test_an_unreachable_hub_that_datasets_notices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(hub, "reach", lambda *_: None)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    with pytest.raises(RefusedInput, match="OfflineModeIsEnabled"):
        list(hub.hub_rows(CorpusConfig(**HUB), setting="data.train"))


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (ValueError("column sizes differ"), RefusedInput, "read from here from row 3 on.*column sizes differ"),
        (ConnectionError("reset by peer"), ConnectionError, "reset by peer"),  # may pass: the controller tries again
    ],
)
def test_a_stream_that_breaks_is_reported(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], says: str
) -> None:
    def stream(*_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        yield {"text": "one"}
        yield {"text": "two"}
        raise error

    monkeypatch.setattr(hub, "reach", lambda *_: None)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=stream))
    with pytest.raises(raised, match=says):
        list(hub.hub_rows(CorpusConfig(**HUB), setting="data.train"))
