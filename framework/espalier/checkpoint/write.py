"""Saving in two phases: every rank writes what it holds, then rank zero makes it a checkpoint.

The order over ranks, which the caller keeps with its own collectives:

    rank zero  begin            every rank waits for it
    every rank write_fragments  rank zero gathers the results
    rank zero  commit           every rank waits for it
"""

from __future__ import annotations

import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
import xxhash
from torch import Tensor

from espalier.checkpoint.bases import load_bases
from espalier.checkpoint.fragments import Dtype, Fragment, Run, Slot, split, tensor_key
from espalier.checkpoint.manifest import Base, DamagedCheckpoint, FileRecord, Manifest, Origin, Published, TensorRecord
from espalier.checkpoint.manifest_file import (
    check_files,
    discard,
    forget_unlisted,
    is_committed,
    load_manifest,
    write_manifest,
)
from espalier.checkpoint.serialize import safetensors_parts
from espalier.storage.contract import Storage

_FILE_NAME = "attempt-{:04d}-rank-{:05d}-{:04d}.safetensors"
_DTYPES: dict[torch.dtype, Dtype] = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
_ATTEMPT = re.compile(r"^attempt-(\d+)-rank-")


class SupersededAttempt(RuntimeError):
    """A later attempt writes to this folder: this one was given up and must stop."""


@dataclass(frozen=True)
class RankFiles:
    """What one rank has written: small, and all that rank zero needs to know of it."""

    rank: int
    attempt: int
    files: dict[str, FileRecord]
    runs: tuple[Run, ...]

    def to_bytes(self) -> bytes:
        """For the gathering on rank zero. Compressed, because at level `parameters` a rank has a run of each tensor."""
        files = {name: one.model_dump() for name, one in self.files.items()}
        runs = [astuple(run) for run in self.runs]
        value = {"rank": self.rank, "attempt": self.attempt, "files": files, "runs": runs}
        return zlib.compress(json.dumps(value).encode(), 1)

    @staticmethod
    def from_bytes(data: bytes) -> RankFiles:
        """What `to_bytes` made."""
        value = json.loads(zlib.decompress(data))
        files = {name: FileRecord(**one) for name, one in value["files"].items()}
        return RankFiles(value["rank"], value["attempt"], files, tuple(Run(*run) for run in value["runs"]))


def begin(storage: Storage, folder: str, *, attempt: int) -> None:
    """Rank zero: make room. A checkpoint of an earlier attempt stays until `commit` puts this one in its place.

    One that this attempt has made itself is removed: a step is saved again in the same attempt only after going back
    to an older checkpoint, which therefore still exists.

    Raises:
        SupersededAttempt: a later attempt was here.
    """
    if storage.exists(folder):
        _refuse_superseded(storage, folder, attempt)
        if attempt in _attempts(storage, folder) or not is_committed(storage, folder):
            discard(storage, folder)
    storage.make_folder(folder)


def abandon(storage: Storage, folder: str, *, attempt: int) -> None:
    """Rank zero: remove what a failed save has written, once no rank writes to it any more.

    Raises:
        SupersededAttempt: a later attempt was here.
    """
    if not storage.exists(folder):
        return
    if not is_committed(storage, folder):
        _refuse_superseded(storage, folder, attempt)
        discard(storage, folder)
        return
    for name in _files_of(storage, folder, attempt):  # over an earlier attempt's, which stays
        storage.remove(f"{folder}/{name}")


def write_fragments(
    storage: Storage,
    folder: str,
    *,
    fragments: Iterable[Fragment],
    rank: int,
    attempt: int,
    max_file_bytes: int = 2**30,
) -> RankFiles:
    """Every rank: write its fragments, durably.

    Host memory beyond the fragments is bounded by `max_file_bytes`: one file's values, where they are not on
    the host already.

    Args:
        fragments: drawn one by one; empty ones are left out.
        attempt: as in the `Origin` that will be committed; part of the file names, so that a late worker of
            an earlier attempt overwrites nothing.
    """
    files: dict[str, FileRecord] = {}
    runs: list[Run] = []
    for batch in _batches(fragments, max_file_bytes):
        name = _FILE_NAME.format(attempt, rank, len(files))
        parts = safetensors_parts({tensor_key(one.slot, one.name, one.offset): _on_host(one) for one in batch})
        storage.write_bytes(f"{folder}/{name}", *parts)
        # Of what was meant, not of what reached the disk: a second reading would trust the disk.
        files[name] = FileRecord(num_bytes=sum(map(len, parts)), xxh3=_xxh3(parts))
        runs += (_run(one, name) for one in batch)
    storage.sync_folder(folder)
    return RankFiles(rank, attempt, files, tuple(runs))


def commit(
    storage: Storage,
    folder: str,
    *,
    origin: Origin,
    shapes: Mapping[str, tuple[int, ...]],
    state: Mapping[str, Any],
    ranks: Sequence[RankFiles],
    tables: Mapping[str, tuple[int, ...]] | None = None,
    beside: Mapping[str, tuple[int, ...]] | None = None,
    bases: Sequence[Base] = (),
    published: Published | None = None,
) -> Manifest:
    """Rank zero: make the folder a checkpoint, after every rank has written.

    Args:
        shapes: of every parameter, by name, those in bases included.
        state: JSON values that resuming needs; keys are strings.
        ranks: one of each rank, in any order.
        tables: shape of every table among the fragments, by name.
        beside: shape of every parameter among them that is no part of the model, by name.
        bases: committed states that hold the parameters which are not among the fragments.
        published: files that hold parameters which are not among the fragments.

    Raises:
        DamagedCheckpoint: the fragments and bases do not cover every tensor exactly once, or a file is not there as
            written; nothing was committed.
        SupersededAttempt: a later attempt was here.
    """
    assert sorted(one.rank for one in ranks) == list(range(origin.world_size)), "one RankFiles of each rank"
    assert {one.attempt for one in ranks} == {origin.attempt}, "all ranks write in the same attempt"
    files = {name: record for one in ranks for name, record in one.files.items()}
    tensors = _tensors([run for one in ranks for run in one.runs], sorted(files))
    manifest = Manifest(
        schema_version=2 if bases or published else 1,
        origin=origin,
        bases=tuple(bases),
        published=published,
        shapes=dict(shapes),
        beside=dict(beside or {}),
        tables=dict(tables or {}),
        tensors=tensors,
        files=files,
        state=dict(state),
    )
    check_files(storage, folder, manifest, verify=False)
    if faults := manifest.faults():
        raise DamagedCheckpoint(folder, faults)
    load_bases(storage, folder, manifest)
    _refuse_superseded(storage, folder, origin.attempt)
    if not is_committed(storage, folder):
        try:
            write_manifest(storage, folder, manifest)
            return manifest
        except FileExistsError:
            pass
    _replace(storage, folder, manifest)
    forget_unlisted(storage, folder, manifest)
    return manifest


def _replace(storage: Storage, folder: str, manifest: Manifest) -> None:
    """Commit over an earlier attempt's checkpoint, of before `begin` or of a worker that came late; over no other."""
    try:
        theirs = load_manifest(storage, folder).origin.attempt
    except DamagedCheckpoint:
        theirs = 0
    if theirs >= manifest.origin.attempt:
        text = f"attempt {manifest.origin.attempt} may not save `{folder}`: attempt {theirs} has committed there"
        raise SupersededAttempt(text)
    write_manifest(storage, folder, manifest, replace=True)


def _batches(fragments: Iterable[Fragment], max_bytes: int) -> Iterator[list[Fragment]]:
    batch: list[Fragment] = []
    held_bytes = 0
    for whole in fragments:
        for one in split(whole, max_bytes=max_bytes):
            if batch and held_bytes + one.num_bytes > max_bytes:
                yield batch
                batch, held_bytes = [], 0
            batch.append(one)
            held_bytes += one.num_bytes
    if batch:
        yield batch


def _on_host(fragment: Fragment) -> Tensor:
    return fragment.values.detach().cpu().contiguous()


def _xxh3(parts: Sequence[memoryview]) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _run(fragment: Fragment, file: str) -> Run:
    dtype = _DTYPES[fragment.values.dtype]
    return Run(fragment.slot, fragment.name, fragment.offset, fragment.values.numel(), dtype, file)


def _tensors(runs: Sequence[Run], files: Sequence[str]) -> dict[Slot, dict[str, TensorRecord]]:
    places = {name: place for place, name in enumerate(files)}
    grouped: dict[Slot, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        grouped[run.slot][run.name].append(run)
    return {
        slot: {name: _record(name, sorted(held, key=lambda run: run.offset), places) for name, held in named.items()}
        for slot, named in grouped.items()
    }


def _record(name: str, runs: Sequence[Run], places: Mapping[str, int]) -> TensorRecord:
    dtypes = {run.dtype for run in runs}
    assert len(dtypes) == 1, f"{name}: ranks wrote different dtypes, {', '.join(sorted(dtypes))}"
    spans = tuple((run.offset, run.length, places[run.file]) for run in runs)
    return TensorRecord(dtype=dtypes.pop(), runs=spans)


def _refuse_superseded(storage: Storage, folder: str, attempt: int) -> None:
    latest = max(_attempts(storage, folder), default=attempt)
    if latest > attempt:
        raise SupersededAttempt(f"attempt {attempt} may not save `{folder}`: attempt {latest} has written there")


def _attempts(storage: Storage, folder: str) -> set[int]:
    """The attempts that have written to a folder."""
    return {int(match[1]) for name in storage.list(folder) if (match := _ATTEMPT.match(name))}


def _files_of(storage: Storage, folder: str, attempt: int) -> list[str]:
    return [name for name in storage.list(folder) if (match := _ATTEMPT.match(name)) and int(match[1]) == attempt]
