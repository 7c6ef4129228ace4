"""A job over preference pairs from schema to report, in one process in which the package that brings them is installed.

`python -m support.preference_scene <folder>` writes what came of it into `told.json` there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from espalier.config.faults import RefusedInput
from espalier.distributed.world import World
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.report.training_curves import read_training_curves
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.training import updates
from espalier.worker.run_stage import run_stage
from espalier_cluster.command import app
from support import spawn
from support.tiny import write_model
from support.whole_run import plan_job, recorded_steps, run_job

PAIRS = [
    ("who speaks? ", "the king speaks", "a sword"),
    ("who enters? ", "the queen", "nobody enters, and the night is long"),
    ("say it: ", "love", "hate"),
    ("the crown is ", "fair and of the lord", "foul"),
    ("good ", "morrow", "night, foul lady"),
    ("exit ", "the lady", "exit exit exit"),
    ("to ", "love is to speak", "x"),
    ("a ", "crown", "of a of a of a of a of a of a of a of a of a of a of a of"),
]
BETA, STEPS = 0.5, 5
_SCRATCH = {"family": "llama", "layers": 1, "hidden": 8, "heads": 2, "train_tokenizer": {"vocabulary": 300}}
UNFIT: list[dict[str, Any]] = [
    {"name": "score", "kind": "evaluate", "model": "tuned"},
    {"name": "scratch", "kind": "load", "from_scratch": _SCRATCH},
]
_HERE = World(0, 1, torch.device("cpu"))


def write_job(
    root: Path, *more: dict[str, Any], workers: int = 1, microbatch: int = 2, until: int | None = None
) -> Path:
    """Load, tune, export; and one step of the model it began as towards the tuned one, to be checked by hand.

    Args:
        more: further stages.
        until: number of stages to keep.
    """
    root.mkdir(parents=True)
    write_model(root / "model")
    rows = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = {"source": "json", "files": ["pairs.jsonl"]}
    trained = {"kind": "dpo", "student": "parent", "batch": {"sequences": 8, "microbatch_sequences": microbatch}}
    trained |= {"optimizer": {"lr": 0.003}, "zero_level": "none", "checkpoint": {"every": 2}, "beta": BETA}
    job: dict[str, Any] = {
        "name": "pairs",
        "storage": str(root / "runs"),
        "dtype": "float32",
        "workers": {"count": workers},
        "tracking": {"wandb": {"mode": "off"}},
        "data": {"format": "preference", "train": table, "valid": table, "sequence_tokens": 64},
        "stages": [
            {"name": "parent", "kind": "load", "model": "./model"},
            {"name": "tuned", "teacher": "parent", "budget": {"steps": STEPS}, **trained},
            {"name": "back", "teacher": "tuned", "budget": {"steps": 1}, **trained},
            *more,
            {"name": "out", "kind": "export", "model": "tuned", "dtype": "float32"},
        ],
    }
    job["stages"] = job["stages"][:until]
    (root / "job.yaml").write_text(yaml.safe_dump(job))
    return root / "job.yaml"


def command(*arguments: object) -> str:
    """What a command prints, which has to end well."""
    ran = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert ran.exit_code == 0, (arguments, ran.output, ran.exception)
    return ran.output


def refused(job: Path) -> list[str]:
    """The sentences with which the plan of a job is refused."""
    try:
        prepare(read_job(job))
    except RefusedInput as given:
        return [str(fault) for fault in given.faults]
    return []


def losses(root: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for step in recorded_steps(root / "runs" / "pairs"):
        found.setdefault(step["stage"], []).append(step["loss"])
    return found


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "runs" / "pairs" / "exports" / "out" / "model.safetensors")


def run_on_rank(world: World, job: str) -> None:
    run_job(world, job)


def stopped_and_resumed(job: Path) -> list[str]:
    """The run with a stop after three of the steps of its training: what each attempt came to."""
    folder, stages = plan_job(_HERE, str(job))
    ends = []
    for stage, until in ((stages[0], 0), ("tuned", 3), ("tuned", 0), ("back", 0), ("out", 0)):
        control, take_step = Control(), updates.take_step

        def counted(*given: Any, until: int = until, control: Control = control, take: Any = take_step, **named: Any):
            report = take(*given, **named)
            if named["random"][1] + 1 == until:
                control.stop.set()
            return report

        with mock.patch.object(updates, "take_step", counted):
            try:
                ends.append(run_stage(StageOrder(str(folder), stage, len(ends) + 1), _HERE, control).status)
            except StageFailed as failure:
                ends.append(failure.cause)
    return ends


def by_hand(root: Path) -> float:
    """DPO's loss of the first step of `back`: stock models, each answer of each pair alone, all logits at once."""
    folders = (root / "model", root / "runs" / "pairs" / "exports" / "out")
    student, teacher = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in folders)
    tokenizer = AutoTokenizer.from_pretrained(folders[0])

    def likelihood(model: Any, prompt: str, answer: str) -> torch.Tensor:
        shown = tokenizer(prompt)["input_ids"][-16:]
        ids = torch.tensor([*shown, *tokenizer(answer)["input_ids"], tokenizer.eos_token_id])[:32]
        found = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])
        return found[len(shown) - 1 :].sum()

    total = torch.zeros(())
    with torch.no_grad():
        for prompt, *answers in PAIRS:
            gains = [likelihood(student, prompt, answer) - likelihood(teacher, prompt, answer) for answer in answers]
            total -= torch.nn.functional.logsigmoid(BETA * (gains[0] - gains[1]))
    return float(total / len(PAIRS))


def play(root: Path) -> dict[str, Any]:
    calm, rough, whole, two = (root / name for name in ("calm", "rough", "whole", "two"))
    with mock.patch.object(spawn, "_START", "fork"):  # nothing but imports has happened here
        spawn.run_ranks(run_on_rank, 2, str(write_job(two, workers=2, until=2)))
    job, run = write_job(calm), calm / "runs" / "pairs"
    told: dict[str, Any] = {"schema": json.loads(command("schema"))["$defs"]}
    told |= {"explain": command("explain", "preference_data"), "validate": command("validate", job)}
    told |= {"plan": json.loads(command("plan", job, "--json", "stages.back.budget={epochs: 2}"))}
    told |= {"remarks": command("plan", job), "refused": refused(write_job(root / "refused", *UNFIT))}
    command("run", job, "--in-process")
    command("report", run)
    told |= {"report": (run / "report.html").read_text(), "compare": command("compare", run)}
    told["curves"] = [(one.label, one.measure, one.final_loss) for one in read_training_curves([run])]
    told["ends"] = stopped_and_resumed(write_job(rough))
    ours, theirs = weights(rough), weights(calm)
    told["same_bits"] = losses(rough) == losses(calm) and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    run_job(_HERE, str(write_job(whole, microbatch=8, until=2)))
    told["losses"] = {one.name: losses(one) for one in (calm, whole, two)}
    return told | {"by_hand": by_hand(calm)}


if __name__ == "__main__":
    Path(sys.argv[1], "told.json").write_text(json.dumps(play(Path(sys.argv[1]))))
