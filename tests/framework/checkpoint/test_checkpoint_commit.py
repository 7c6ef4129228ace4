"""What is refused before it becomes a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_cases import SHAPES, cut, make_origin, make_tensors, save_ranks

from espalier.checkpoint import manifest_file
from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import is_committed
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import SupersededAttempt, begin, commit, write_fragments
from espalier.storage.local import LocalStorage

FOLDER = "stages/heal/step-00000500"


def _ranks_with(place: int, fragment: Fragment | None) -> list[list[Fragment]]:
    """Two ranks, the second one's fragment at `place` replaced, or left out."""
    first, second = cut(make_tensors(1), num_ranks=2)
    second[place : place + 1] = [fragment] if fragment else []
    return [first, second]


_SECOND_HALF = torch.randn(17)


@pytest.mark.parametrize(
    ("ranks", "reason"),
    [
        (_ranks_with(0, None), "parameter `body.weight` has 18 values where its shape asks for 35"),
        (_ranks_with(0, Fragment("parameter", "body.weight", 17, _SECOND_HALF)), "an overlap at value 17"),
        (_ranks_with(0, Fragment("parameter", "body.weight", 19, _SECOND_HALF[:16])), "a hole at value 18"),
        (_ranks_with(0, Fragment("parameter", "body.weight", 18, torch.randn(19))), "has 37 values"),
        (_ranks_with(0, Fragment("parameter", "other", 0, _SECOND_HALF)), "`other` has values but no shape"),
        (cut(make_tensors(1, slots=("exp_avg",)), num_ranks=1), "`scale` has a shape but no values"),
    ],
)
def test_fragments_that_do_not_cover_are_not_committed(tmp_path: Path, ranks, reason: str) -> None:
    storage = LocalStorage(tmp_path)
    with pytest.raises(DamagedCheckpoint, match=reason):
        save_ranks(storage, FOLDER, ranks=ranks)
    assert not is_committed(storage, FOLDER)


def test_a_manifest_that_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    monkeypatch.setattr(manifest_file, "_MAX_BYTES", 500)
    with pytest.raises(ValueError, match="bytes where 500 can be read"):
        save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=2))
    assert not is_committed(storage, FOLDER)


def test_ranks_that_disagree_on_a_dtype_are_not_committed(tmp_path: Path) -> None:
    ranks = _ranks_with(0, Fragment("parameter", "body.weight", 18, _SECOND_HALF.bfloat16()))
    with pytest.raises(AssertionError, match="bfloat16, float32"):
        save_ranks(LocalStorage(tmp_path), FOLDER, ranks=ranks)


def test_every_rank_must_have_written(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    begin(storage, FOLDER, attempt=1)
    (held,) = cut(make_tensors(1), num_ranks=1)
    written = write_fragments(storage, FOLDER, fragments=held, rank=0, attempt=1)
    origin = make_origin(step=500, attempt=1, num_ranks=2)
    with pytest.raises(AssertionError, match="one RankFiles of each rank"):
        commit(storage, FOLDER, origin=origin, shapes=SHAPES, state={}, ranks=[written])


@pytest.mark.parametrize("change", ["gone", "shorter"])
def test_a_file_that_is_not_as_written_stops_the_commit(tmp_path: Path, change: str) -> None:
    storage = LocalStorage(tmp_path)
    begin(storage, FOLDER, attempt=1)
    (held,) = cut(make_tensors(1), num_ranks=1)
    written = write_fragments(storage, FOLDER, fragments=held, rank=0, attempt=1)
    (file,) = (tmp_path / FOLDER).iterdir()
    file.unlink() if change == "gone" else file.write_bytes(file.read_bytes()[:-1])
    origin = make_origin(step=500, attempt=1, num_ranks=1)
    with pytest.raises(DamagedCheckpoint, match=file.name):
        commit(storage, FOLDER, origin=origin, shapes=SHAPES, state={}, ranks=[written])
    assert not is_committed(storage, FOLDER)


def test_state_that_json_cannot_tell_is_not_committed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    begin(storage, FOLDER, attempt=1)
    (held,) = cut(make_tensors(1), num_ranks=1)
    written = write_fragments(storage, FOLDER, fragments=held, rank=0, attempt=1)
    origin = make_origin(step=500, attempt=1, num_ranks=1)
    with pytest.raises(ValueError, match="JSON"):
        commit(storage, FOLDER, origin=origin, shapes=SHAPES, state={"loss": float("nan")}, ranks=[written])
    assert not is_committed(storage, FOLDER)


def test_what_another_save_left_behind_is_removed_first(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    begin(storage, FOLDER, attempt=1)
    write_fragments(storage, FOLDER, fragments=cut(make_tensors(9), num_ranks=1)[0], rank=7, attempt=1)
    manifest = save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=2), attempt=2)
    assert set(storage.list(FOLDER)) == {*manifest.files, "manifest.json"}


def test_a_late_worker_of_an_earlier_attempt_changes_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    begin(storage, FOLDER, attempt=1)
    late = write_fragments(storage, FOLDER, fragments=cut(make_tensors(9), num_ranks=1)[0], rank=0, attempt=1)
    save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=1), attempt=2)
    late = write_fragments(storage, FOLDER, fragments=cut(make_tensors(9), num_ranks=1)[0], rank=0, attempt=1)
    origin = make_origin(step=500, attempt=1, num_ranks=1)
    with pytest.raises(SupersededAttempt):
        commit(storage, FOLDER, origin=origin, shapes=SHAPES, state={}, ranks=[late])
    with pytest.raises(SupersededAttempt):
        begin(storage, FOLDER, attempt=1)
    reader = StateReader.open(storage, FOLDER)
    assert torch.equal(reader.tensor("parameter", "scale"), make_tensors(1)["parameter", "scale"])


def test_ranks_of_different_attempts_make_no_checkpoint(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    begin(storage, FOLDER, attempt=1)
    (held,) = cut(make_tensors(1), num_ranks=1)
    written = replace(write_fragments(storage, FOLDER, fragments=held, rank=0, attempt=1), attempt=3)
    with pytest.raises(AssertionError, match="same attempt"):
        commit(
            storage,
            FOLDER,
            origin=make_origin(step=500, attempt=1, num_ranks=1),
            shapes=SHAPES,
            state={},
            ranks=[written],
        )
