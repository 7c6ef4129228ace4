"""Whatever a job file says, it is either read or refused; nothing else ever comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espalier.config.faults import RefusedInput
from espalier.jobs.files import check_files
from espalier.jobs.load import read_job
from espalier.jobs.schema import resolved
from framework.config.right_job import JOB

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["95M", "infM", "500 steps", "load", "jsd", "auto", "../x", "./x", "~", "$x", "/", "1e-4", "heal"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(values: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def mutate(values: Any, place: tuple[str | int, ...], change: Any) -> Any:
    if not place:
        return change(values)
    copy = values.copy()
    copy[place[0]] = mutate(values[place[0]], place[1:], change)
    return copy


RIGHT = yaml.safe_load(JOB.replace("1e-4", "0.0001"))


def read_or_refused(path: Path, overrides: tuple[str, ...] = ()) -> None:
    try:
        job = read_job(path, overrides)
    except RefusedInput as refused:
        assert refused.faults
        assert all(str(fault).isprintable() and fault.path for fault in refused.faults)
    else:
        resolved(job)
        check_files(job)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations") / "job.yaml"


KEYS = st.text(max_size=5) | st.sampled_from(["load", "CorpusConfig", "HeldOutConfig", "x[y", "a.b"])
TEXTS = st.text(max_size=10) | st.sampled_from(["\t", "&a", "*a", "<<: ", "!!x ", "{", "- ", "'"])
OVERRIDES = st.text(max_size=12) | st.from_regex(
    r"(stages|data|seed|workers)([.]heal|\[[0-9]\]|[.]x|[.])*=.{0,5}", fullmatch=True
)
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SETTINGS
@given(place=st.sampled_from(places(RIGHT)), value=VALUES)
def test_any_value_in_any_place(path: Path, place: tuple[str | int, ...], value: Any) -> None:
    path.write_text(yaml.safe_dump(mutate(RIGHT, place, lambda _: value), allow_unicode=False))
    read_or_refused(path)


@SETTINGS
@given(
    place=st.sampled_from([p for p in places(RIGHT) if p]),
    key=st.text(max_size=5) | st.sampled_from(["load", "CorpusConfig", "HeldOutConfig", "Range"]),
    value=VALUES,
)
def test_any_key_beside_or_instead_of_another(path: Path, place: tuple[str | int, ...], key: str, value: Any) -> None:
    def change(values: Any) -> Any:
        if isinstance(values, dict):
            return {k: v for k, v in values.items() if k != place[-1]} | {key: value}
        return values[: place[-1]]

    path.write_text(yaml.safe_dump(mutate(RIGHT, place[:-1], change)))
    read_or_refused(path)


@SETTINGS
@given(
    start=st.integers(0, len(JOB)),
    length=st.integers(0, 30),
    text=st.text(max_size=10) | st.sampled_from(["\t", "&a", "*a", "<<: ", "!!x ", "{", "- ", "'"]),
)
def test_any_text_in_the_midst(path: Path, start: int, length: int, text: str) -> None:
    path.write_bytes((JOB[:start] + text + JOB[start + length :]).encode("utf-8", "surrogatepass"))
    read_or_refused(path)


@SETTINGS
@given(data=st.binary(max_size=40))
def test_any_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    read_or_refused(path)


@SETTINGS
@given(
    override=st.text(max_size=12)
    | st.from_regex(r"(stages|data|seed|workers)([.]heal|\[[0-9]\]|[.]x|[.])*=.{0,5}", fullmatch=True)
)
def test_any_override(path: Path, override: str) -> None:
    path.write_text(JOB)
    read_or_refused(path, (override,))
