"""Temporary folders are private, kept while any process holds them, and swept when none does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from espalier_cluster import held_folders
from espalier_cluster.held_folders import hold, let_go, make_folder, remove, sweep

HOLD = """
import sys
from pathlib import Path
from espalier_cluster.held_folders import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(held_folders, "ROOT", tmp_path)
    return tmp_path


def test_a_folder_is_private_and_removed_after_its_last_holder_is_killed() -> None:
    folder = make_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None and other.stdout is not None and other.stdout.readline() == "held\n"
    sweep()
    assert folder.exists(), "this process holds it"
    remove(folder, patience_seconds=0.1)
    assert folder.exists(), "the other process still does"
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    sweep()
    assert not folder.exists()


def test_a_folder_that_is_released_and_held_again_is_kept() -> None:
    folder = make_folder()
    let_go(folder)
    hold(folder)
    sweep()
    assert folder.exists()
    remove(folder, patience_seconds=0.0)
    assert not folder.exists()


def test_a_folder_that_could_not_be_removed_is_removed_by_the_next_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder()
    (folder / "ray").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(held_folders.shutil, "rmtree", lambda path, ignore_errors: None)  # written to meanwhile
        remove(folder, patience_seconds=0.0)
    assert (folder / "ray").exists()
    sweep()
    assert not folder.exists()


def test_what_is_not_ours_is_never_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "espalier-thesis").mkdir()
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "held").touch()
    (root / "espalier-link").symlink_to(root / "elsewhere")
    folder = make_folder()
    let_go(folder)
    owner = folder.stat().st_uid
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    sweep()
    assert folder.exists()
    monkeypatch.setattr("os.getuid", lambda: owner)
    sweep()
    assert sorted(one.name for one in root.iterdir()) == ["elsewhere", "espalier-link", "espalier-thesis"]
