"""What a manifest names is opened: it stays inside the run, whoever has written it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xxhash
from checkpoint_cases import cut, make_tensors, save_ranks

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import load_manifest
from espalier.storage.local import LocalStorage

FOLDER = "stages/heal/step-00000500"


def rewrite(storage: LocalStorage, **origin: object) -> None:
    """Forge the manifest: its hash is right."""
    path = storage.root / FOLDER / "manifest.json"
    body = json.loads(path.read_text())["manifest"]
    body["origin"] |= origin
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({"manifest": body, "xxh3": xxhash.xxh3_128_hexdigest(canonical.encode())}))


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path)
    save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=1))
    return storage


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tokenizer", "/etc"),
        ("tokenizer", "../../x"),
        ("tokenizer", ".."),
        ("parent", "/etc"),
        ("parent", "stages/../../x/step-00000001"),
        ("parent", "stages/slim"),
        ("stage", "../x"),
    ],
)
def test_names_that_leave_the_run_are_damage(storage: LocalStorage, setting: str, value: str) -> None:
    rewrite(storage, **{setting: value})
    with pytest.raises(DamagedCheckpoint, match=f"origin.{setting}"):
        load_manifest(storage, FOLDER)


def test_keys_of_a_newer_espalier_are_passed_over(storage: LocalStorage) -> None:
    rewrite(storage, colour="red")
    assert load_manifest(storage, FOLDER).origin.stage == "heal"


def test_a_manifest_nested_too_deeply_is_none(storage: LocalStorage) -> None:
    (storage.root / FOLDER / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(DamagedCheckpoint, match="is no manifest"):
        load_manifest(storage, FOLDER)
