"""Doors and arrows: who may import whom, and which room alone imports a heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from espalier.config.formats import FORMATS

ROOT = Path(__file__).parents[2]
FRAMEWORK = ROOT / "framework" / "espalier"
CLUSTER = ROOT / "cluster" / "espalier_cluster"

DOORS = {"transformers": "models", "datasets": "data", "deepspeed": "engine", "wandb": "tracking"}
_WORK = {
    "checkpoint", "data", "distributed", "engine", "evaluation", "models", "objectives", "saving", "stages", "storage",
    "surgery", "teachers", "tracking", "training", "weighting", "worker",
}  # fmt: skip
ARROWS = {  # room -> rooms it may import; every room may import config, and declarations of stage kinds
    "audit": {
        "checkpoint",
        "data",
        "distributed",
        "evaluation",
        "jobs",
        "models",
        "stages",
        "storage",
        "tracking",
        "weighting",
    },
    "config": set(),
    "jobs": set(),
    "storage": set(),
    "stages": {"jobs", "storage"},
    "distributed": set(),
    "recipes": {"jobs"},
    "models": {"data", "storage"},  # a network takes a batch
    "status": {"checkpoint", "jobs", "stages", "storage", "tracking"},
    "surgery": {"models"},
    "data": set(),
    "objectives": set(),
    "checkpoint": {"jobs", "storage"},
    "tracking": {"jobs", "stages", "storage"},
    "engine": {"checkpoint", "data", "distributed", "models", "objectives"},
    "teachers": {"data", "objectives"},
    "weighting": set(),
    "formats": {"data", "models", "worker"},
    "evaluation": {"teachers", "data", "distributed", "engine", "models", "objectives"},
    "planning": {"data", "engine", "jobs", "models", "objectives", "stages", "surgery"},
    "report": {"jobs", "stages", "storage", "tracking"},
    "worker": _WORK - {"saving", "training", "weighting"} | {"jobs"},
    "saving": _WORK - {"training", "weighting"} | {"jobs"},
    "training": _WORK - {"weighting"} | {"jobs"},
    "kinds": _WORK | {"jobs", "planning"},
}
DECLARATION = "kind.py"
"""Of a stage kind: what everybody may import, and what imports nothing but the job's own parts."""
TORCH_FREE = ("config", "jobs", "storage", "stages", "recipes", "planning", "tracking", "report", "status")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def rooms() -> list[str]:
    return sorted(path.name for path in FRAMEWORK.iterdir() if (path / "__init__.py").exists())


def test_every_room_has_its_arrows() -> None:
    assert rooms() == sorted(ARROWS)


def is_allowed(room: str, path: Path, inside: list[str]) -> bool:
    """Whether a file of a room may import a module of `espalier`."""
    if inside[0] == "kinds" and inside[-1] == "kind" and room not in ("config", "jobs"):
        return True
    if room == "kinds" and path.name == DECLARATION:
        return inside[0] in ("config", "jobs")
    if room == "formats" and path.name == "format.py":
        return inside[0] == "config"  # the declaration is read with the job file
    if room in ("kinds", "formats") and inside[0] == room:
        return inside[1] == path.parent.name  # a kind knows another's declaration and nothing else of it
    return inside[0] in {room, "config", *ARROWS[room]}


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_arrows_and_doors(room: str) -> None:
    for path in (FRAMEWORK / room).rglob("*.py"):
        for module in imports(path):
            library, *inside = module.split(".")
            assert library not in ("ray", "espalier_cluster"), f"{path}: the framework knows no cluster"
            assert DOORS.get(library, room) == room, f"{path}: {library} comes in through {DOORS.get(library)}"
            if library == "espalier" and inside:
                assert is_allowed(room, path, inside), f"{path}: {room} -> {module}"


def test_the_files_of_one_tracker_alone_import_wandb() -> None:
    """Following the record, and what is sent after a stop, know no tracker."""
    knowing = sorted(path.name for path in FRAMEWORK.rglob("*.py") if "wandb" in imports(path))
    assert knowing == ["wandb_session.py", "wandb_tracker.py"]


def test_the_cluster_leaves_the_doors_alone() -> None:
    for path in CLUSTER.rglob("*.py"):
        assert not set(DOORS) & {module.split(".")[0] for module in imports(path)}, path


def test_only_the_framework_s_command_line_knows_the_cluster_by_name() -> None:
    """`python -m espalier` hands over to the command, which lies in the cluster."""
    knowing = [path.name for path in FRAMEWORK.rglob("*.py") if "espalier_cluster" in path.read_text()]
    assert knowing == ["__main__.py"]


@pytest.mark.parametrize("room", TORCH_FREE)
def test_importing_a_torch_free_room_does_not_load_torch(room: str) -> None:
    modules = [
        ".".join(path.relative_to(FRAMEWORK.parent).with_suffix("").parts)
        for path in (FRAMEWORK / room).glob("*.py")
        if path.stem != "__init__"
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_look_at_data_does_not_load_torch() -> None:
    modules = [f"espalier.formats.{name}.{part}" for name in FORMATS.built_in for part in ("format", "look")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_unpickles() -> None:
    for path in [*FRAMEWORK.rglob("*.py"), *CLUSTER.rglob("*.py")]:
        text = path.read_text()
        for forbidden in (
            "torch.load",
            "import pickle",
            "yaml.load(",
            "trust_remote_code=True",
            "shell=True",
        ):
            assert forbidden not in text, f"{path}: {forbidden}"
