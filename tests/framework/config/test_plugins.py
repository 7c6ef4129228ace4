"""What other installed packages add to a registry, and what of it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from espalier.config.plugins import Registry, load_reference


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, as that of an installed package."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, package: str, entries: dict[str, str], code: str = "") -> None:
    """A package with one module and the entry points of a group."""
    (site / f"{package}.py").write_text(code)
    facts = site / f"{package}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (facts / "entry_points.txt").write_text("\n".join(["[espalier.numbers]", *lines]))


def numbers() -> Registry[int]:
    return Registry("espalier.numbers", int, {"largest": "sys:maxsize"})


def test_what_is_built_in_comes_first(site: Path) -> None:
    install(site, "added_one", {"answer": "added_one:ANSWER"}, "ANSWER = 42")
    registry = numbers()
    assert list(registry) == ["largest", "answer"]
    assert (registry["largest"], registry["answer"]) == (sys.maxsize, 42)
    assert not registry.broken


def test_a_taken_name_is_never_replaced(site: Path) -> None:
    install(site, "thief", {"largest": "thief:ONE"}, "ONE = 1")
    registry = numbers()
    assert registry["largest"] == sys.maxsize
    assert registry.broken == {"largest": "the name largest of package thief is taken"}


def test_of_two_packages_with_one_name_neither_is_taken(site: Path) -> None:
    install(site, "first_of_two", {"answer": "first_of_two:ONE"}, "ONE = 1")
    install(site, "second_of_two", {"answer": "second_of_two:TWO"}, "TWO = 2")
    registry = numbers()
    assert "answer" not in registry and "is taken" in registry.broken["answer"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise OSError('no such library')", "OSError: no such library"),
        ("", "AttributeError"),
        ("ANSWER = 'forty-two'", "TypeError: a int is expected, not a str"),
    ],
)
def test_an_entry_that_cannot_be_used_says_why_and_harms_nobody(site: Path, code: str, told: str) -> None:
    install(site, f"broken_{len(code)}", {"answer": f"broken_{len(code)}:ANSWER"}, code)
    registry = numbers()
    assert list(registry) == ["largest"]
    assert told in registry.broken["answer"] and f"package broken_{len(code)}" in registry.broken["answer"]


def test_a_reference_is_module_and_name() -> None:
    assert load_reference("sys:maxsize") == sys.maxsize
