"""What is spoiled: a model, text, samples, job files, and two finished runs, each small."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier_cluster.drive import HowToRun, drive
from faults.fuzzing.mutations import SECRET, Kind
from support.labelled import labelled_job, write_table
from support.tiny import tiny_job, write_model, write_text


@dataclass(frozen=True)
class Subject:
    """One file that is spoiled, and the commands that read it.

    Attributes:
        file: below the ground.
        commands: argument lists of `espalier`, with paths below the ground.
    """

    group: str
    file: str
    kind: Kind
    commands: tuple[tuple[str, ...], ...]


def make_ground(folder: Path) -> None:
    """Everything, in `folder`; the canaries lie beside what is used."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "canary" / "deep").mkdir(parents=True)
    (folder / "canary" / "secret.txt").write_text(f"{SECRET}\n")
    # Data may be a link that its user made, and a refusal quotes the columns of a table; see `link_of_another`.
    (folder / "canary" / "own.txt").write_text("a file of one's own\n")
    (folder / "canary" / "deep" / "config.json").write_text(f'{{"note": "{SECRET}"}}')
    write_model(folder / "model")
    write_text(folder / "text", num_files=3, num_words=80)
    write_table(folder / "samples.csv", rows=24)
    (folder / "text.yaml").write_text(yaml.safe_dump(_small(tiny_job(folder, name="text")), sort_keys=False))
    (folder / "labels.yaml").write_text(yaml.safe_dump(_small(labelled_job(folder, name="labels")), sort_keys=False))
    for job in ("text.yaml", "labels.yaml"):
        with open(os.devnull, "w") as nowhere:
            code = drive(prepare(read_job(folder / job)), HowToRun(in_process=True), Console(file=nowhere))
        assert code == 0, f"the undisturbed run of {job} ended with {code}"


def _small(job: dict[str, Any]) -> dict[str, Any]:
    """The same with fewer steps, as it is run hundreds of times."""
    for stage in job["stages"]:
        if "steps" in stage.get("budget", {}):
            stage["budget"] = {"steps": 2}
        if "epochs" in stage.get("budget", {}):
            stage["budget"] = {"epochs": 1}
        if stage["kind"] == "cross_fit":
            stage["folds"] = 2
    return job


def unfinish(folder: Path) -> None:
    """Take the last stages' results away, so that a run has something to do."""
    for run, stages in {"text": ("heal", "score", "out"), "labels": ("corrected", "scores", "out")}.items():
        for stage in stages:
            (folder / "runs" / run / "stages" / stage / "result.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "runs" / run / "exports" / "out", ignore_errors=True)


def subjects(folder: Path) -> list[Subject]:
    """Every file of the ground that a command reads."""
    found = []
    for name in ("text", "labels"):
        job, run = f"{name}.yaml", f"runs/{name}"
        found.append(Subject("job file", job, "yaml", (("validate", job), ("plan", job))))
        looks = (("plan", job), ("report", run), ("compare", run), ("checkpoint", "list", run))
        for path in sorted((folder / run).rglob("*")):
            file = path.relative_to(folder).as_posix()
            if not path.is_file() or "/exports/" in file or path.name == "report.html":
                continue
            if "/step-" in file:
                step = file[: file.index("/", file.index("/step-") + 1)]
                checks = (("checkpoint", "verify", run), ("checkpoint", "list", run), ("checkpoint", "show", step))
                found.append(Subject("checkpoint", file, _kind(path), checks))
            else:
                found.append(Subject("small file of a run", file, _kind(path), looks))
    for path in sorted((folder / "model").iterdir()):
        file = path.relative_to(folder).as_posix()
        found.append(Subject("model", file, _kind(path), (("plan", "text.yaml"), ("plan", "labels.yaml"))))
    text = sorted((folder / "text").iterdir())[0].relative_to(folder).as_posix()
    found.append(Subject("data", text, "bytes", (("plan", "text.yaml"),)))
    found.append(Subject("data", "samples.csv", "csv", (("plan", "labels.yaml"),)))
    for path in sorted((folder / "runs" / ".cache").rglob("*")):
        if path.is_file():
            file = path.relative_to(folder).as_posix()
            found.append(Subject("cache", file, _kind(path), (("plan", "text.yaml"),)))
    return found


def _kind(path: Path) -> Kind:
    if path.suffix in (".json", ".jsonl", ".csv"):
        kind: Kind = path.suffix[1:]  # type: ignore[assignment]
        return kind
    return "json" if path.name in ("attempts", "lock") else "bytes"
