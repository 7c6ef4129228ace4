"""One job with every kind of stage on GPUs, through the command: what each stage took and came to.

    python tests/benchmarks/gpu_kinds.py [--workers 1] [--level gradients]

Tiny models and texts that are made here; nothing is downloaded. What it shows is that each kind runs there, at a ZeRO
level, from pretraining on text to fine-tuning on labels, adapters and preference pairs of other packages among them;
its seconds are those of starting things.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.installed import install
from support.kill import finish
from support.labelled import write_table
from support.preference_scene import PAIRS
from support.tiny import tiny_job, write_text

_SUPPORT = Path(__file__).parents[1] / "support"
_PACKAGES = {
    "espalier.stages": {"lora": "espalier_lora.kind:KIND", "dpo": "espalier_preference.kind:KIND"},
    "espalier.formats": {"preference": "espalier_preference.format:PREFERENCE"},
}


def main() -> None:
    """Print a row a stage; exit code 1 when the run does not end well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--level", default="gradients")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _install_packages(root / "site")
        job = _write_job(root, asked.workers, asked.level)
        code = finish(job, seconds=500)
        if code:
            print((root / "output.txt").read_text()[-4000:])
            raise SystemExit(1)
        print(f"{'stage':12}{'kind':11}{'seconds':>9}{'peak MiB':>10}  came to")
        for entry in json.loads((root / "runs" / "every" / "plan.json").read_text()):
            result = json.loads((root / "runs" / "every" / "stages" / entry["name"] / "result.json").read_text())
            cost, metrics = result["cost"], result["metrics"]
            shown = {name: metrics[name] for name in ("parameters", "final_loss", "accuracy") if name in metrics}
            row = f"{cost['seconds']:9.1f}{cost['peak_bytes'] / 2**20:10.0f}"
            print(f"{entry['name']:12}{entry['kind']:11}{row}  {json.dumps(shown)}")


def _install_packages(site: Path) -> None:
    """Make the command that is started find the packages of the tests' files."""
    site.mkdir()
    for number, (group, entries) in enumerate(_PACKAGES.items()):
        install(site, f"added_{number}", entries, group=group)
    paths = [str(site), str(_SUPPORT / "lora_plugin"), str(_SUPPORT / "preference_plugin")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])


def _write_job(root: Path, workers: int, level: str) -> Path:
    write_text(root / "text")
    write_table(root / "samples.csv")
    table = {"source": "csv", "files": [str(root / "samples.csv")], "id": "id"}
    labels = {"task": "classification", "train": table, "valid": {"fraction": 0.25}, "sequence_tokens": 48}
    rows = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = {"source": "json", "files": [str(root / "pairs.jsonl")]}
    pairs = {"format": "preference", "train": table, "valid": table, "sequence_tokens": 64}
    gpus = {"count": workers, "gpus_each": 1}
    changes = {
        "dtype": "auto",
        "workers": gpus,
        "data_sets": {"reviews": labels, "pairs": pairs},
        "stages": _stages(level),
    }
    job = tiny_job(root, name="every", **changes)
    path = root / "job.yaml"
    path.write_text(json.dumps(job))  # YAML, without aliases
    return path


def _stages(level: str) -> list[dict[str, Any]]:
    shape = {"family": "llama", "layers": 2, "hidden": 48, "heads": 6, "kv_heads": 3, "ffn": 64, "positions": 64}
    few = {"batch": {"sequences": 8, "microbatch_sequences": 2}, "optimizer": {"lr": 0.003}, "zero_level": level}
    alone = few | {"zero_level": "none"}
    drawn = level if level != "parameters" else "gradients"
    tuned, seen = {"tune": {"only": ["*.q_proj.weight", "*norm.weight"]}}, {"data": "reviews"}
    hidden = {"function": "hidden_mse", "layers": [[2, 4]], "weight": 0.1}
    scratch = shape | {"train_tokenizer": {"vocabulary": 300}}
    steps: dict[str, Any] = {"budget": {"steps": 6}}
    return [
        {"name": "begin", "kind": "load", "from_scratch": scratch},
        {"name": "first", "kind": "train", "student": "begin", "depth_sampling": {"depth": 4}, **steps, **few}
        | {"zero_level": drawn},
        {"name": "larger", "kind": "grow", "student": "first", "target": {"layers": 4}, "operator": "interpolate"},
        {"name": "more", "kind": "train", "student": "larger", "optimizer_state": "keep", **steps, **few},
        {"name": "part", "kind": "train", "student": "more", **steps, **few, **tuned},
        {"name": "adapted", "kind": "lora", "student": "more", "rank": 3, **steps, **few},
        {"name": "preferred", "kind": "dpo", "student": "adapted", "teacher": "more", "data": "pairs", **steps, **few},
        {"name": "slim", "kind": "prune", "student": "part", "target": {"layers": 3, "ffn": 40},
         "calibration": {"samples": 8, "microbatch_sequences": 2}},
        {"name": "healed", "kind": "distill", "student": "slim", "teacher": "more", **steps, **few,
         "losses": [{"function": "forward_kl"}, hidden]},
        {"name": "again", "kind": "correct", "student": "healed", "teacher": "more", "budget": {"epochs": 1}, **few},
        {"name": "scores", "kind": "evaluate", "model": "again", "against": ["more", "slim"], "prompts": ["the king"]},
        {"name": "reader", "kind": "head", "student": "healed", **seen},
        {"name": "folds", "kind": "cross_fit", "student": "reader", "folds": 2, "budget": {"epochs": 1}, **alone,
         **seen},
        {"name": "told", "kind": "correct", "student": "reader", "teacher": "folds", "budget": {"epochs": 2}, **few,
         **seen},
        {"name": "told_part", "kind": "train", "student": "reader", "budget": {"epochs": 2}, **few, **tuned, **seen},
        {"name": "figures", "kind": "evaluate", "model": "told", "against": ["told_part"], **seen},
        {"name": "out", "kind": "export", "model": "told", "dtype": "float32"},
    ]  # fmt: skip


if __name__ == "__main__":
    main()
