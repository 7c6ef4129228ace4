"""Ways to grow a model beside training it whole: loss, FLOPs, seconds, and both at the whole model's final loss.

    python tests/benchmarks/growth.py CORPUS [--storage FOLDER] [--rows ROW ...] [--seeds 0 1] [--minutes 25] [--tiny]

CORPUS is a folder with `train.bin.xz` and `valid.bin.xz` (little-endian uint16 ids) and their `tok.json`, in which id
0 ends a document. A 27.5 M model with 12 layers is trained on 60 M tokens per row, each with a whole schedule of its
own; rows named `...@0.7` have 0.7 of the budget, which is how "as good for less" is asked rightly. Rows come in the
order of what a short time should show first. What is done in STORAGE is not done again, and a row that was stopped
goes on; `--minutes` begins no further row after so long. `--tiny` tries it all on a CPU.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from espalier.report.training_curves import TrainingCurve, read_training_curves

WSD, COSINE = {"schedule": "wsd", "decay": 0.2}, {"schedule": "cosine"}
APOLLO = {"preset": "apollo"}
ROWS: dict[str, dict[str, Any]] = {
    "scratch-wsd": {"preset": "scratch"},
    "gradual_stack-wsd": {"preset": "gradual_stack"},
    "g_stack-wsd": {"preset": "g_stack"},
    "gradual_stack-wsd@0.75": {"preset": "gradual_stack"},
    "scratch-wsd-lr1e-3": {"preset": "scratch", "optimizer": {"lr": 1e-3}},
    "scratch-wsd-lr3e-3": {"preset": "scratch", "optimizer": {"lr": 3e-3}},
    "gradual_stack-wsd-lr3e-3": {"preset": "gradual_stack", "optimizer": {"lr": 3e-3}},
    "late_stack-wsd": {"preset": "late_stack"},
    "late_stack-wsd@0.9": {"preset": "late_stack"},
    "late_stack-wsd@0.86": {"preset": "late_stack"},
    "late_stack-wsd@0.8": {"preset": "late_stack"},
    "from_six-wsd": {"depths": [6, 12], "boundaries": [0.5]},
    "apollo-lvps-wsd": APOLLO,
    "gradual_stack-wsd-zeroed": {"preset": "gradual_stack", "new_moments": "zero"},
    "gradual_stack-wsd-fresh": {"preset": "gradual_stack", "optimizer_state": "fresh"},
    "gradual_stack-wsd-rewarm": {"preset": "gradual_stack", "rewarm": 0.05},
    "gradual-interpolate-wsd": {"preset": "gradual_stack", "operator": "interpolate"},
    "gradual-identity-wsd": {"preset": "gradual_stack", "operator": "identity"},
    "g_stack-half-wsd": {"preset": "g_stack", "boundaries": [0.5]},
    "scratch-cosine": {"preset": "scratch", "optimizer": COSINE},
    "gradual_stack-cosine": {"preset": "gradual_stack", "optimizer": COSINE},
    "apollo-lvps-cosine": APOLLO | {"optimizer": COSINE},
    "apollo-uniform-wsd": APOLLO | {"sampling": "uniform"},
    "apollo-edge-wsd": APOLLO | {"sampling": "edge"},
    "apollo-stack-wsd": APOLLO | {"operator": "stack"},
    "apollo-zeroed-wsd": APOLLO | {"new_moments": "zero"},
    "one_layer_to_full-wsd": {"preset": "one_layer_to_full", "optimizer": {"decay": 0.1}},
    "one_layer_half-wsd": {"preset": "one_layer_to_full", "boundaries": [0.5]},
}
FULL = {"layers": 12, "hidden": 384, "ffn": 1024, "heads": 6, "positions": 512}
TINY = {"layers": 4, "hidden": 48, "ffn": 128, "heads": 4, "positions": 32}


def main() -> None:
    """Run what is asked for and not done, then print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--storage", type=Path, default=Path("growth-benchmark"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--tokens", type=int, default=60_000_000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    storage = asked.storage.resolve()
    text = unpack(asked.corpus, storage / "text", pieces=40 if asked.tiny else None)
    started, done = time.time(), []
    for seed in asked.seeds:
        for row in asked.rows:
            name = f"{row}-s{seed}"
            if time.time() - started < 60 * asked.minutes or (storage / name / "stages/scores/result.json").exists():
                run(storage, name, job(storage, text, name, ROWS[row], seed=seed, asked=asked))
                done.append(name)
    show(storage, done)


def unpack(corpus: Path, target: Path, *, pieces: int | None) -> Path:
    """The corpus as documents and a tokenizer folder, once."""
    if target.exists():
        return target
    made = target.with_name(f"{target.name}.unfinished")
    made.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(corpus / "tok.json"))
    for split in ("train", "valid"):
        with gzip.open(made / f"{split}.jsonl.gz", "wt", compresslevel=1) as file:
            for document in _documents(corpus / f"{split}.bin.xz", tokenizer, pieces):
                file.write(json.dumps({"text": document}) + "\n")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(made / "tokenizer")
    made.rename(target)
    return target


def _documents(path: Path, tokenizer: Tokenizer, pieces: int | None) -> Iterator[str]:
    with lzma.open(path) as file:
        ids = np.frombuffer(file.read(), dtype="<u2")
    ends = np.flatnonzero(ids == 0)[:pieces]
    parts = np.split(ids[: ends[-1] + 1], ends + 1)[:-1]
    for start in range(0, len(parts), 512):
        yield from tokenizer.decode_batch([part[:-1].tolist() for part in parts[start : start + 512]])


def job(
    storage: Path, text: Path, name: str, dials: dict[str, Any], *, seed: int, asked: argparse.Namespace
) -> dict[str, Any]:
    """The job of one row."""
    share = float(name.partition("@")[2].rpartition("-s")[0] or 1.0)
    sequences, length = (8, 32) if asked.tiny else (64, 512)
    tokens = 40 * sequences * length if asked.tiny else asked.tokens
    shape = TINY if asked.tiny else FULL | {"layers": asked.layers}
    if "depths" in dials:
        dials = dials | {"depths": [max(1, depth * shape["layers"] // 12) for depth in dials["depths"]]}
    optimizer = {"lr": 1.5e-3, "warmup": 0.02, **WSD} | dials.get("optimizer", {})
    if optimizer["schedule"] != "wsd":
        del optimizer["decay"]
    recipe = {
        "name": "progressive_growth",
        "from_scratch": {"family": "llama", "tokenizer": str(text / "tokenizer"), **shape},
        "budget": {"steps": round(share * tokens / (sequences * length))},
        "batch": {"sequences": sequences, "microbatch_sequences": sequences},
        "zero_level": "none",
        "checkpoint": {"every": 10**6, "keep_latest": 1},
        "evaluation_sequences": 20 if asked.tiny else 1000,
    }
    data = {split: {"source": "json", "files": [str(text / f"{split}.jsonl.gz")]} for split in ("train", "valid")}
    return {
        "name": name.replace("@", ".at"),
        "storage": str(storage),
        "seed": seed,
        "workers": {"count": 1, "gpus_each": 0 if asked.tiny else 1},
        "tracking": {"wandb": {"mode": "off"}},
        "data": {**data, "sequence_tokens": length},
        "recipe": recipe | dials | {"optimizer": optimizer},
    }


def run(storage: Path, name: str, settings: dict[str, Any]) -> None:
    """One row, through the command; it says itself when it is done already."""
    file = storage / f"{name}.json"
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "espalier_cluster.command", "run", str(file), "--in-process"]
    with open(storage / f"{name}.log", "w") as log:
        ended = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        print(name, "did not end:", (storage / f"{name}.log").read_text()[-1500:], flush=True)


def show(storage: Path, names: list[str]) -> None:
    """The table, each row beside the best of the rows that were trained whole with all of the budget."""
    folders = [storage / name.replace("@", ".at") for name in names]
    curves = {
        curve.label: curve
        for curve in read_training_curves([folder for folder in folders if (folder / "plan.json").exists()])
    }
    measured = {label: curve for label, curve in curves.items() if curve.nll is not None}
    whole = [curve for label, curve in measured.items() if label.startswith("scratch")]
    if not whole:
        print("no row of a model that was trained whole is done")
        return
    base = min(whole, key=lambda curve: curve.nll or 0.0)
    print(f"beside {base.label}: validation loss {base.nll:.4f}")
    print(
        f"{'row':34}{'valid':>8}{'PFLOP':>8}{'seconds':>9}{'FLOPs':>8}{'time':>8}{'to same loss':>14}{'worst jump':>12}"
    )
    for label, curve in sorted(measured.items(), key=lambda item: item[1].nll or 0.0):
        print(_row(storage, label, curve, base), flush=True)


def _row(storage: Path, label: str, curve: TrainingCurve, base: TrainingCurve) -> str:
    last, other, reached = curve.points[-1], base.points[-1], curve.reaches(base.final_loss)
    same = "never" if reached is None else f"{reached.flops / other.flops - 1:+.1%}"
    jumps = [json.loads(path.read_text())["metrics"]["seam"]["jump"] for path in _growths(storage / label)]
    worst = f"{max(jumps):+.3f}" if jumps else ""
    return (
        f"{label:34}{curve.nll:8.4f}{last.flops / 1e15:8.3f}{last.seconds:9.1f}{last.flops / other.flops - 1:+8.1%}"
        f"{last.seconds / other.seconds - 1:+8.1%}{same:>14}{worst:>12}"
    )


def _growths(run_folder: Path) -> list[Path]:
    return sorted(run_folder.glob("stages/grow_*/result.json"))


if __name__ == "__main__":
    main()
