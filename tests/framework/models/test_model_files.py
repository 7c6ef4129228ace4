"""The files of a model beside its weights: read from its folder alone, stripped of code, kept whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier.models import model_files
from espalier.models.model_files import KEPT, files_key, read_model_files, require_key, write_model_files
from espalier.models.pretrained import read_config
from espalier.stages.run_folder import RunFolder
from support.tiny import byte_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer's folder, and a secret beside it."""
    made = tmp_path / "model"
    byte_tokenizer().save_pretrained(made)
    (tmp_path / "secret").write_text('{"model_type": "llama", "secret": 1}')
    return made


def test_a_model_s_files_are_written_once_and_again_when_one_changed(folder: Path, tmp_path: Path) -> None:
    files, target = read_model_files(folder, setting="model"), tmp_path / "tokenizers" / "key"
    write_model_files(files, target)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    write_model_files(files, target)
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before and "tokenizer.json" in before
    write_model_files(files | {"chat_template.jinja": b"{{ messages }}"}, target)
    assert (target / "chat_template.jinja").exists() and [path.name for path in target.parent.iterdir()] == ["key"]


def test_files_that_somebody_changed_in_a_run_are_not_used(folder: Path, tmp_path: Path) -> None:
    files = read_model_files(folder, setting="model")
    key, run = files_key(files), RunFolder(tmp_path / "run")
    write_model_files(files, run.tokenizer(key))
    require_key(run.tokenizer(key), key)
    (run.tokenizer(key) / "merges.txt").write_text("a b")
    with pytest.raises(RefusedInput, match="holds other files than this run put there"):
        require_key(run.tokenizer(key), key)
    shutil.rmtree(run.tokenizer(key))
    (run.path / "tokenizers" / key).symlink_to(folder)
    with pytest.raises(RefusedInput, match="leads out of it"):
        run.tokenizer(key)


def link_out(place: Path) -> None:
    place.symlink_to("../secret")


def link_through_a_folder(place: Path) -> None:
    (place.parent / "deeper").symlink_to("..")
    place.symlink_to("deeper/secret")


def link_nowhere(place: Path) -> None:
    place.symlink_to("nothing")


def link_in_a_circle(place: Path) -> None:
    place.symlink_to(place.name)


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def folder_of_this_name(place: Path) -> None:
    place.mkdir()


@pytest.mark.parametrize(
    "make", [link_out, link_through_a_folder, link_nowhere, link_in_a_circle, device, os.mkfifo, folder_of_this_name]
)
@pytest.mark.parametrize("name", [*KEPT, "config.json"])
def test_nothing_but_plain_files_of_the_folder_is_read(name: str, make: Callable[[Path], None], folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(RefusedInput, match=f"^`stages.a.model` names .*, whose `{name}` is .*; allowed: a folder with"):
        read_model_files(folder, setting="stages.a.model")
    if name == "config.json":
        with pytest.raises(RefusedInput, match=r"^`stages.a.model` is .*config.json"):
            read_config(folder, setting="stages.a.model")


def test_a_file_that_never_ends_is_not_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "MAX_BYTES", 999)
    (folder / "chat_template.jinja").write_bytes(b"a" * 1000)
    with pytest.raises(RefusedInput, match=r"`chat_template.jinja` is larger than 999 bytes"):
        read_model_files(folder, setting="model")


def test_links_of_the_hub_s_cache_lead_to_its_blobs_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "c0ffee", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(folder.iterdir()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert "tokenizer.json" in read_model_files(snapshot, setting="model")
    (snapshot / "chat_template.jinja").symlink_to("../../../secret")
    with pytest.raises(RefusedInput, match=r"`chat_template.jinja` is a link to a file outside of it"):
        read_model_files(snapshot, setting="model")
    plain = tmp_path / "models" / "snapshots" / "mine"
    plain.mkdir(parents=True)
    (tmp_path / "models" / "blobs").mkdir()
    (tmp_path / "models" / "blobs" / "secret").write_text("secret")
    (plain / "merges.txt").symlink_to("../../blobs/secret")
    with pytest.raises(RefusedInput, match=r"`merges.txt` is a link"):
        read_model_files(plain, setting="model")


def test_what_asks_for_code_or_names_places_is_left_out(folder: Path) -> None:
    hostile = {
        "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
        "trust_remote_code": True,
        "custom_generate": "evil/generate",
        "tokenizer_file": "/etc/passwd",
        "vocab_file": "/etc/passwd",
        "name_or_path": "/home/somebody/model",
    }
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        (folder / name).write_text(json.dumps({"eos_token": "<|end|>", "temperature": 0.5} | hostile))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 3} | hostile))
    (folder / "added_tokens.json").write_text(json.dumps({"auto_map": 257}))
    for name in ("evil.py", "custom_generate"):
        (folder / name).write_text("raise SystemExit")
    files = read_model_files(folder, setting="model")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        assert json.loads(files[name]) == {"eos_token": "<|end|>", "temperature": 0.5}
    assert json.loads(files["config.json"]) == {"model_type": "llama"}, "what tells stock code the tokenizer's class"
    assert json.loads(files["added_tokens.json"]) == {"auto_map": 257}, "a word of a vocabulary is no setting"
    assert not {"evil.py", "custom_generate"} & set(files)


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe", b'{"a":' * 100_000])
def test_settings_that_are_no_object_are_refused_with_their_file(content: bytes, folder: Path) -> None:
    (folder / "generation_config.json").write_bytes(content)
    with pytest.raises(RefusedInput, match=r"`generation_config.json` is no JSON object"):
        read_model_files(folder, setting="model")


def test_every_file_is_in_the_key(folder: Path) -> None:
    keys = {files_key(read_model_files(folder, setting="model"))}
    for name in KEPT:
        if name.endswith(".json") and name not in ("tokenizer.json", "added_tokens.json", "vocab.json"):
            (folder / name).write_text('{"a": 1}')
        else:
            (folder / name).write_text("other")
        keys.add(files_key(read_model_files(folder, setting="model")))
    assert len(keys) == 1 + len(KEPT)
    assert files_key({"a": b"b", "c": b""}) != files_key({"a": b"", "c": b"b"})
