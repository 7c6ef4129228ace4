"""Plain model folders: what is exported is read again, and what others offer is held to the rules."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_cases import Stopped, StoppingStorage
from safetensors.torch import save_file
from torch import Tensor

from espalier.checkpoint.export import write_folder
from espalier.checkpoint.export_mark import MARK
from espalier.checkpoint.huggingface import ModelFolder, tensors_of
from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage

TENSORS = {
    "embed.weight": torch.randn(13, 5),
    "up.weight": torch.randn(7, 5),
    "norm.weight": torch.randn(5),
    "ids": torch.arange(3),
}


def _model(tensors: dict[str, Tensor] = TENSORS) -> ModelFolder:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return ModelFolder({"hidden_size": 5}, shapes, tensors.__getitem__, {"README.md": b"# slim\n"})


@pytest.mark.parametrize(
    ("dtype", "max_shard_bytes", "num_shards"),
    [
        (torch.float32, 2**20, 1),
        (torch.float32, 200, 2),
        (torch.float32, 150, 3),
        (torch.float32, 1, 4),
        (torch.bfloat16, 200, 2),
    ],
)
def test_an_export_reads_back_equal(tmp_path: Path, dtype: torch.dtype, max_shard_bytes: int, num_shards: int) -> None:
    storage = LocalStorage(tmp_path)
    write_folder(storage, "out", model=_model(), dtype=dtype, max_shard_bytes=max_shard_bytes)
    names = storage.list("out")
    assert ("model.safetensors" in names) == (num_shards == 1)
    assert sum(name.endswith(".safetensors") for name in names) == num_shards
    again = tensors_of(tmp_path / "out")
    assert again.config == {"hidden_size": 5}
    assert again.shapes == _model().shapes
    for name, tensor in TENSORS.items():
        wanted = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert again.read(name).dtype == wanted.dtype
        again.read(name).zero_()  # a copy
        assert torch.equal(again.read(name), wanted)
    assert storage.read_bytes("out/README.md", max_bytes=99) == b"# slim\n"
    assert storage.list(".") == ("out",)


def test_one_tensor_is_read_at_a_time_and_a_shard_is_let_go(tmp_path: Path) -> None:
    import weakref

    living: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def read(name: str) -> Tensor:
        nonlocal most
        tensor = torch.zeros(10)
        living.add(tensor)
        most = max(most, len(living))
        return tensor

    model = ModelFolder({}, {f"t{i}": (10,) for i in range(23)}, read)
    write_folder(LocalStorage(tmp_path), "out", model=model, dtype=torch.float32, max_shard_bytes=80)
    assert most <= 4  # two of the shard being filled, two of the one before


def test_an_export_replaces_an_earlier_one_but_nothing_else(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    write_folder(storage, "out", model=_model(), dtype=torch.float32)
    write_folder(storage, "out", model=_model({"a": torch.zeros(3)}), dtype=torch.float32)
    assert tensors_of(tmp_path / "out").shapes == {"a": (3,)}
    (tmp_path / "empty").mkdir()
    write_folder(storage, "empty", model=_model(), dtype=torch.float32)
    assert storage.list(".") == ("empty", "out")


def _somebodys_model(folder: Path) -> None:
    (folder / "src").mkdir(parents=True)
    (folder / "config.json").write_text('{"espalier_version": "0.1.0"}')
    (folder / "src" / "thesis.txt").write_text("long")


def _a_file(folder: Path) -> None:
    folder.write_text("thesis")


def _a_link(folder: Path) -> None:
    target = folder.with_name("target")
    _exported(target)
    folder.symlink_to(target)


def _a_dangling_link(folder: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


def _exported(folder: Path) -> None:
    write_folder(LocalStorage(folder.parent), folder.name, model=_model(), dtype=torch.float32)


def _export_with_a_note(folder: Path) -> None:
    _exported(folder)
    (folder / "notes.txt").write_text("mine")


def _export_with_a_folder(folder: Path) -> None:
    _exported(folder)
    (folder / "runs").mkdir()


def _export_with_a_changed_card(folder: Path) -> None:
    _exported(folder)
    (folder / "README.md").write_text("# slam\n")  # of the same size


def _export_trained_further(folder: Path) -> None:
    _exported(folder)
    (folder / "model.safetensors").write_bytes(b"other weights")


def _export_with_a_file_that_is_a_link(folder: Path) -> None:
    _exported(folder)
    (folder / "README.md").rename(folder.with_name("card"))
    (folder / "README.md").symlink_to(folder.with_name("card"))


def _export_of_an_espalier_without_marks(folder: Path) -> None:
    _exported(folder)
    (folder / MARK).unlink()


def _mark_of_nonsense(folder: Path) -> None:
    folder.mkdir()
    (folder / MARK).write_text("[" * 100_000)


def _mark_of_a_newer_espalier(folder: Path) -> None:
    _exported(folder)
    (folder / MARK).write_text(json.dumps({"schema_version": 2, "files": []}))


def _unfinished_mark_over_other_content(folder: Path) -> None:
    _exported(folder)
    (folder / MARK).write_text(json.dumps({"files": dict.fromkeys(["README.md", "config.json", "model.safetensors"])}))


@pytest.mark.parametrize(
    "plant",
    [
        _somebodys_model,
        _a_file,
        _a_link,
        _a_dangling_link,
        _export_with_a_note,
        _export_with_a_folder,
        _export_with_a_changed_card,
        _export_trained_further,
        _export_with_a_file_that_is_a_link,
        _export_of_an_espalier_without_marks,
        _mark_of_nonsense,
        _mark_of_a_newer_espalier,
        _unfinished_mark_over_other_content,
    ],
    ids=lambda plant: plant.__name__.strip("_"),
)
def test_what_is_not_exactly_an_export_is_refused_and_stays(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    plant(tmp_path / "out")
    before = _tree(tmp_path)
    with pytest.raises(RefusedInput, match="out") as refused:
        write_folder(LocalStorage(tmp_path), "out", model=_model(), dtype=torch.float32)
    assert len(refused.value.faults) == 1 and "; " in str(refused.value)
    assert _tree(tmp_path) == before


def _tree(root: Path) -> dict[str, object]:
    """All below `root`, without following links: what it is and holds."""
    paths = sorted(root.rglob("*"))
    return {
        str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in paths
    }


def test_what_is_put_there_while_the_export_is_written_stays(tmp_path: Path) -> None:
    def read(name: str) -> Tensor:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "thesis.txt").write_text("long")
        return torch.zeros(3)

    with pytest.raises(RefusedInput, match=r"thesis\.txt"):
        write_folder(LocalStorage(tmp_path), "out", model=ModelFolder({}, {"a": (3,)}, read), dtype=torch.float32)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "long"


def test_only_what_an_export_left_unfinished_is_swept(tmp_path: Path) -> None:
    mine = tmp_path / "out.0badcafe.unfinished"
    _somebodys_model(mine)
    before = _tree(mine)
    write_folder(LocalStorage(tmp_path), "out", model=_model(), dtype=torch.float32)
    assert _tree(mine) == before


def test_an_export_that_stops_is_not_there(tmp_path: Path) -> None:
    counted = StoppingStorage(tmp_path / "counted")
    write_folder(counted, "out", model=_model(), dtype=torch.float32, max_shard_bytes=200)
    for stop_at in range(counted.num_calls):
        root = tmp_path / str(stop_at)
        with pytest.raises(Stopped):
            write_folder(
                StoppingStorage(root, stop_at=stop_at, how="torn"),
                "out",
                model=_model(),
                dtype=torch.float32,
                max_shard_bytes=200,
            )
        if (root / "out").exists():
            assert tensors_of(root / "out").shapes == _model().shapes
        write_folder(LocalStorage(root), "out", model=_model(), dtype=torch.float32)
        assert LocalStorage(root).list("out") == ("README.md", "config.json", MARK, "model.safetensors")
        assert LocalStorage(root).list(".") == ("out",)


def _sharded(folder: Path) -> Path:
    write_folder(LocalStorage(folder), "m", model=_model(), dtype=torch.float32, max_shard_bytes=200)
    return folder / "m"


def _change_index(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", ""])
def test_an_index_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    save_file({"norm.weight": torch.zeros(5)}, tmp_path / "secret.safetensors")
    folder = _sharded(tmp_path)
    _change_index(folder, lambda weight_map: weight_map.update({"norm.weight": name}))
    with pytest.raises(RefusedInput, match="same folder"):
        tensors_of(folder)


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    save_file({"norm.weight": torch.zeros(5)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(RefusedInput, match="stays inside"):
        tensors_of(folder)


def test_a_snapshot_of_the_hub_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file({"norm.weight": torch.ones(5)}, blobs / "b1")
    (blobs / "b2").write_text("{}")
    (snapshot / "model.safetensors").symlink_to("../../blobs/b1")
    (snapshot / "config.json").symlink_to("../../blobs/b2")
    assert torch.equal(tensors_of(snapshot).read("norm.weight"), torch.ones(5))


def test_all_faults_of_an_index_are_told_at_once(tmp_path: Path) -> None:
    folder = _sharded(tmp_path)
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[0].write_bytes(shards[0].read_bytes()[:-1])
    _change_index(folder, lambda weight_map: weight_map.update({"gone": "gone.safetensors", "lost": shards[1].name}))
    with pytest.raises(RefusedInput) as caught:
        tensors_of(folder, setting="stages[0].model")
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert all(part in text for part in ("gone.safetensors", "lost", shards[0].name, "stages[0].model"))


class _Canary:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("canary-was-run"),))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickled_weights_are_refused_and_never_opened(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(pickle.dumps(_Canary()))
    with pytest.raises(RefusedInput, match=name) as caught:
        tensors_of(tmp_path)
    assert "save_pretrained" in str(caught.value)
    assert not (tmp_path / "canary-was-run").exists()


def _header(num_bytes: int, text: bytes) -> bytes:
    return struct.pack("<Q", num_bytes) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04K\x01.",
        _header(2**63, b"{}"),
        _header(200_000_000, b"{}" + b" " * 1000),
        _header(58, b'{"a":{"dtype":"F32","shape":[2147483648],"data_offsets":[0,4]}}'),
        _header(3, b"[1]"),
    ],
)
def test_a_file_that_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RefusedInput, match="whole safetensors file"):
        tensors_of(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\0", "[" * 100_000])
def test_a_config_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RefusedInput, match="JSON object"):
        tensors_of(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match=r"config\.json"):
        tensors_of(tmp_path / "nowhere")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RefusedInput, match=r"model\.safetensors"):
        tensors_of(tmp_path)
