"""A checkpoint of many ranks with the names and shapes of Llama-3.1-8B: its files, its manifest, its time.

    python tests/benchmarks/many_ranks_checkpoint.py [--ranks 512] [--level parameters]

Everything is the product's code but the values: each rank's file has its real header and size, and holds nothing
(a sparse file, so hashes are made up and not verified). Level `parameters` cuts every parameter over all ranks, level
`optimizer` the chain of all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.checkpoint.fragments import Run, tensor_key
from espalier.checkpoint.manifest import FileRecord, Origin
from espalier.checkpoint.manifest_file import MANIFEST, check_files, load_manifest
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import RankFiles, begin, commit
from espalier.engine.adamw import MOMENTS
from espalier.models.families import layout
from espalier.storage.local import LocalStorage

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
SLOTS = ("parameter", *MOMENTS)
FOLDER = "stages/big/step-00000010"
_FLOAT32_BYTES = 4

Owned = list[tuple[str, int, int]]
"""(name, offset, length) of what a rank owns."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=512)
    parser.add_argument("--level", choices=["parameters", "optimizer"], default="parameters")
    asked = parser.parse_args()
    shapes = {name: one.shape for name, one in layout(LLAMA).items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    print(f"{len(shapes)} parameters, {sum(sizes.values()):,} values, {asked.ranks} ranks, level {asked.level}")
    cut = _of_each_parameter if asked.level == "parameters" else _of_the_chain
    owned = cut(sizes, asked.ranks)
    with tempfile.TemporaryDirectory(prefix="espalier-ranks-") as root:
        storage = LocalStorage(Path(root))
        begin(storage, FOLDER, attempt=1)
        ranks = [_rank_files(storage, rank, owned[rank]) for rank in range(asked.ranks)]
        ranks = _gathered(ranks)
        origin = Origin(
            stage="big", step=10, attempt=1, world_size=asked.ranks, zero_level=asked.level, model=LLAMA, parent=None
        )
        with _told("commit on rank zero"):
            manifest = commit(storage, FOLDER, origin=origin, shapes=shapes, state={}, ranks=ranks)
        runs = sum(len(one.runs) for records in manifest.tensors.values() for one in records.values())
        num_bytes = storage.num_bytes(f"{FOLDER}/{MANIFEST}")
        print(f"  {len(manifest.files)} files, {runs:,} entries of runs, manifest of {num_bytes:,} bytes")
        with _told("of that: looking at every file"):
            check_files(storage, FOLDER, manifest, verify=False)
        with _told("reading the manifest"):
            load_manifest(storage, FOLDER)
        with _told("a rank opens the state and finds its part, same ranks"):
            _read(storage, owned[-1])
        with _told("the same with three ranks for every four"):
            _read(storage, cut(sizes, asked.ranks * 3 // 4)[-1])
    print(f"  memory of this process at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB")


def _of_each_parameter(sizes: dict[str, int], ranks: int) -> list[Owned]:
    """As DeepSpeed's level 3 cuts: rank r owns [r * piece, (r + 1) * piece) of every parameter."""
    owned: list[Owned] = []
    for rank in range(ranks):
        pieces = ((name, rank * -(-size // ranks), size) for name, size in sizes.items())
        owned.append(
            [(name, start, min(-(-size // ranks), size - start)) for name, start, size in pieces if start < size]
        )
    return owned


def _of_the_chain(sizes: dict[str, int], ranks: int) -> list[Owned]:
    """As levels 1 and 2 cut: all parameters one after the other, in equal parts."""
    part, owned = -(-sum(sizes.values()) // ranks), [[] for _ in range(ranks)]
    end = 0
    for name, size in sizes.items():
        begin_at, end = end, end + size
        for rank in range(begin_at // part, (end - 1) // part + 1):
            first, last = max(begin_at, rank * part), min(end, (rank + 1) * part)
            owned[rank].append((name, first - begin_at, last - first))
    return owned


def _rank_files(storage: LocalStorage, rank: int, owned: Owned) -> RankFiles:
    """What `write_fragments` returns, with a file that has header and size alone."""
    file = f"attempt-0001-rank-{rank:05d}-0000.safetensors"
    header, end = {}, 0
    runs = tuple(Run(slot, *piece, "float32", file) for piece in owned for slot in SLOTS)
    for run in runs:
        begin_at, end = end, end + run.length * _FLOAT32_BYTES
        key = tensor_key(run.slot, run.name, run.offset)
        header[key] = {"dtype": "F32", "shape": [run.length], "data_offsets": [begin_at, end]}
    text = json.dumps(header).encode()
    num_bytes = 8 + len(text) + end
    with (storage.root / FOLDER / file).open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(num_bytes)
    return RankFiles(rank, 1, {file: FileRecord(num_bytes=num_bytes, xxh3=f"{rank:032x}")}, runs)


def _gathered(ranks: list[RankFiles]) -> list[RankFiles]:
    """What rank zero has after the ranks have told it what they have written."""
    with _told("a rank's list"):
        ranks[0].to_bytes()
    lists = [one.to_bytes() for one in ranks]
    print(f"  bytes of the largest list: {max(map(len, lists)):,}; of all: {sum(map(len, lists)):,}")
    ranks.clear()
    with _told("reading the lists of all"):
        return [RankFiles.from_bytes(one) for one in lists]


def _read(storage: LocalStorage, owned: Owned) -> None:
    reader = StateReader.open(storage, FOLDER, verify=False)
    for name, offset, length in owned:
        for slot in SLOTS:
            reader.read(slot, name, offset=offset, length=length)


@contextmanager
def _told(what: str) -> Iterator[None]:
    wall, used = time.perf_counter(), time.process_time()
    yield
    print(
        f"  {what:<56} {time.perf_counter() - wall:8.2f} s, processor {time.process_time() - used:8.2f} s", flush=True
    )


if __name__ == "__main__":
    main()
