"""Packages as pip would have installed them: a module and its entry points, in a folder on the import path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espalier.config.plugins import Registry


def install(site: Path, package: str, entries: dict[str, str], code: str = "", *, group: str) -> None:
    """Write a package of one module with entry points of one group.

    Args:
        site: on the import path.
        entries: name -> `module:object`.
        code: of the module; nothing is written when empty, as entries may point to modules that are there.
    """
    if code:
        (site / f"{package}.py").write_text(code)
    facts = site / f"{package}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (facts / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))


@contextmanager
def site_packages(folder: Path, *registries: Registry[Any]) -> Iterator[Path]:
    """Put a folder on the import path; the registries look again at what is installed, now and afterwards."""
    folder.mkdir(exist_ok=True)
    sys.path.insert(0, str(folder))
    try:
        look_again(*registries)
        yield folder
    finally:
        sys.path.remove(str(folder))
        look_again(*registries)


def look_again(*registries: Registry[Any]) -> None:
    """Let registries forget what they have found, as in a new process."""
    importlib.invalidate_caches()
    for registry in registries:
        registry.__dict__.pop("_found", None)
