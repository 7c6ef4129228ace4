"""The manifest on disk: hashed itself, published last, removed first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash
from pydantic import ValidationError

from espalier.checkpoint.manifest import SCHEMA, DamagedCheckpoint, FileRecord, Manifest
from espalier.checkpoint.traces import is_of_checkpoint
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import COMMIT, Storage

MANIFEST = COMMIT
_MAX_BYTES = 256 * 2**20

Hashed = set[tuple[str, str]]
"""Files that were read and had the hash that a manifest gives them: path and hash of each."""


def is_committed(storage: Storage, folder: str) -> bool:
    """Whether the folder is a checkpoint, damaged or not."""
    return storage.exists(f"{folder}/{MANIFEST}")


def write_manifest(storage: Storage, folder: str, manifest: Manifest, *, replace: bool = False) -> None:
    """Make the folder a checkpoint, durably and in one step; everything else in it is durable already.

    Args:
        replace: the checkpoint that it is, in the same one step; its files may still be there.

    Raises:
        ValueError: a value in `state` that JSON has no word for, NaN among them; or more than can be read again, as
            with the runs of 400 billion parameters on 4,096 ranks at level `parameters`.
        FileExistsError: it is one already.
    """
    body = json.loads(_canonical(manifest.model_dump(mode="python")))
    text = _canonical({"manifest": body, "xxh3": _digest(body)})
    if len(text) > _MAX_BYTES:
        remedy = "save from fewer workers, or at zero_level gradients, where a worker has runs of few parameters"
        raise ValueError(f"the manifest of `{folder}` has {len(text)} bytes where {_MAX_BYTES} can be read; {remedy}")
    (storage.replace if replace else storage.publish)(f"{folder}/{MANIFEST}", text.encode())


def load_manifest(storage: Storage, folder: str) -> Manifest:
    """Read a manifest and check that it is whole and fits together. Looks at no other file.

    Raises:
        DamagedCheckpoint: there is none, or it is not what was written.
        RefusedInput: a newer espalier wrote it.
    """
    return load_hashed(storage, folder)[0]


def load_hashed(storage: Storage, folder: str) -> tuple[Manifest, str]:
    """As `load_manifest`, with XXH3 (128 bits, hex) of the manifest, which is what another state names it by."""
    try:
        envelope = json.loads(storage.read_bytes(f"{folder}/{MANIFEST}", max_bytes=_MAX_BYTES))
        body = envelope["manifest"]
        if (xxh3 := envelope["xxh3"]) != _digest(body):
            raise DamagedCheckpoint(folder, [f"`{MANIFEST}` is not as it was written"])
        _refuse_newer(folder, body["schema_version"])
        manifest = Manifest.model_validate_json(_canonical(body))
    except FileNotFoundError:
        raise DamagedCheckpoint(folder, [f"it has no `{MANIFEST}`: it was never committed"]) from None
    except (DamagedCheckpoint, RefusedInput):
        raise
    except ValidationError as error:
        places = (".".join(map(str, one["loc"])) + ": " + one["msg"] for one in error.errors())
        raise DamagedCheckpoint(folder, places) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedCheckpoint(folder, [f"`{MANIFEST}` is no manifest"]) from None
    if faults := manifest.faults():
        raise DamagedCheckpoint(folder, faults)
    return manifest, xxh3


def check_files(
    storage: Storage, folder: str, manifest: Manifest, *, verify: bool, hashed: Hashed | None = None
) -> None:
    """Compare every file with the manifest: its size always, its hash when `verify` (reads all of it).

    Args:
        hashed: files that had their hash before; they are not read again, and files that have it now are added.

    Raises:
        DamagedCheckpoint: naming every file that is missing or not as it was written.
    """
    if reasons := file_faults(storage, folder, manifest.files, verify=verify, hashed=hashed):
        raise DamagedCheckpoint(folder, reasons)


def file_faults(
    storage: Storage, folder: str, files: Mapping[str, FileRecord], *, verify: bool, hashed: Hashed | None = None
) -> list[str]:
    """A sentence about every file that is missing or not as it was written; see `check_files`."""
    reasons = []
    hashed, root = set() if hashed is None else hashed, getattr(storage, "root", "")
    for name, record in files.items():
        path, known = f"{folder}/{name}", (f"{root}/{folder}/{name}", record.xxh3)
        try:
            num_bytes = storage.num_bytes(path)
            if num_bytes != record.num_bytes:
                reasons.append(f"`{name}` has {num_bytes} bytes where {record.num_bytes} were written")
            elif verify and known not in hashed:
                if storage.xxh3(path) == record.xxh3:
                    hashed.add(known)
                else:
                    reasons.append(f"`{name}` is not as it was written")
        except FileNotFoundError:
            reasons.append(f"`{name}` is missing")
    return reasons


def discard(storage: Storage, folder: str) -> None:
    """Remove a checkpoint or what is left of one. Stopped half-way, what remains is no checkpoint.

    What somebody else has put into its folder stays, and the folder with it.
    """
    if is_committed(storage, folder):
        storage.remove(f"{folder}/{MANIFEST}")
        storage.sync_folder(folder)
    names = storage.list(folder)
    if all(map(is_of_checkpoint, names)):
        storage.remove(folder)
        return
    for name in filter(is_of_checkpoint, names):
        storage.remove(f"{folder}/{name}")


def forget_unlisted(storage: Storage, folder: str, manifest: Manifest) -> None:
    """Remove the files of a checkpoint that this one has taken the place of."""
    for name in storage.list(folder):
        if name != MANIFEST and name not in manifest.files and is_of_checkpoint(name):
            storage.remove(f"{folder}/{name}")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(body: Any) -> str:
    return xxhash.xxh3_128_hexdigest(_canonical(body).encode())


def _refuse_newer(folder: str, schema: int) -> None:
    if schema > SCHEMA:
        allowed = f"checkpoints up to schema {SCHEMA}; it was written by a newer espalier, so upgrade this one"
        raise RefusedInput([Fault(f"{folder}/{MANIFEST}: schema_version", schema, allowed)])
