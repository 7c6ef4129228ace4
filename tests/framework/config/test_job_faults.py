"""What a job may say: everything wrong with it at once, each in one sentence with its place, value and remedy."""

# ruff: noqa: E501 - one case a line reads as a table

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.load import read_job
from framework.config.right_job import JOB


def test_a_right_job_is_read_with_its_numbers(job_file: Path) -> None:
    job = read_job(job_file)
    slim, heal = job.stages[1], job.stages[2]
    assert slim.target.parameters == 95_000_000
    assert heal.budget.tokens == 1_500_000_000
    assert heal.checkpoint.every == 500
    assert heal.optimizer.lr == 1e-4
    assert [loss.function for loss in heal.losses] == ["forward_kl", "jsd"]


@pytest.mark.parametrize(
    ("written", "count"), [("10K", 10_000), ("10k", 10_000), ("1e4", 10_000), ("1.5e9", 1_500_000_000), ("200.0", 200)]
)
def test_a_count_is_read_as_people_write_it(job_file: Path, written: str, count: int) -> None:
    assert read_job(job_file, [f"stages.heal.budget.tokens={written}"]).stages[2].budget.tokens == count


@pytest.mark.parametrize(
    ("workers", "counts"), [({"count": 4, "min": 1}, (1, 2, 4)), ({"count": 4, "min": 2}, (2, 4)), ({"count": 2}, (2,))]
)
def test_a_run_may_go_on_with_numbers_of_workers_that_share_its_batches_evenly(
    job_file: Path, workers: dict[str, int], counts: tuple[int, ...]
) -> None:
    written = [f"workers.{name}={value}" for name, value in workers.items()]
    assert read_job(job_file, written).worker_counts() == counts


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seed: 17", "seed: true", "`seed` (line 3) is True; allowed: a whole number at least 0"),
        ("seed: 17", "seed: '17'", "`seed` (line 3) is '17'; allowed: a whole number at least 0 and below 9.22337e+18. Did you mean `17`?"),
        ("seed: 17", "seed: 1e4", "`seed` (line 3) is 10000.0; allowed: a whole number at least 0 and below 9.22337e+18. Did you mean `10000`?"),
        ("seed: 17", "seed:", "`seed` (line 3) is empty; allowed: a whole number"),
        ("seed: 17", "sed: 17", "`sed` (line 3) is no setting here; allowed: name, storage, checkpoints, seed"),
        ("seed: 17", "_target_: os.system", "`_target_` (line 3) is no setting here"),
        ("name: slim\n", "name: ../../x\n", "`name` (line 1) is '../../x'; allowed: text, at most 64 lower-case letters"),
        ("name: slim\n", "name: a;rm -rf\n", "`name` (line 1) is 'a;rm -rf'"),
        ("name: slim\n", "name: " + "a" * 300 + "\n", "`name` (line 1) is 'aaa"),
        ("name: slim\n", 'name: "a\\nb"\n', "`name` (line 1) is 'a\\nb'"),
        ("name: slim\n", 'name: "a\\n"\n', "`name` (line 1) is 'a\\n'"),
        ("name: slim\n", "name: sl\u0456m\n", "`name` (line 1) is 'sl\u0456m'"),
        ("/shared/runs", "runs", "`storage` (line 2) is 'runs'; allowed: an absolute folder, or ./folder beside"),
        ("/shared/runs", "/shared/../etc", "`storage` (line 2) is '/shared/../etc'; allowed: an absolute folder without `..`"),
        ("/shared/runs", "$HOME/runs", "`storage` (line 2) is '$HOME/runs'; allowed: a path in full"),
        ("/shared/runs", "~/runs", "`storage` (line 2) is '~/runs'; allowed: a path in full"),
        ("/shared/runs", '"/a\\0b"', "`storage` (line 2) is '/a\\x00b'; allowed: a path without control characters"),
        ("/data/valid.txt", "'${WANDB_API_KEY}'", "`data.valid.files[0]` (line 7) is '${WANDB_API_KEY}'; allowed: a path in full"),
        ("seed: 17", "resume: latest", "`resume` (line 3) is 'latest'; allowed: auto, never, or the folder of a checkpoint"),
        ("count: 2", "count: 0", "`workers.count` (line 4) is 0; allowed: a whole number above 0"),
        ("count: 2", "count: 10000000000000000", "`workers.count` (line 4) is 10000000000000000; allowed: a whole number above 0 and at most 1e+15"),
        ("count: 2", "count: 2, min: 3", "`workers.min` (line 4) is 3; allowed: at most workers.count, 2"),
        ("count: 2", "count: 4, min: 3", "`stages.heal.batch.sequences` (line 16) is 12; allowed: a multiple of 9, microbatch_sequences times workers.min"),
        ("gpus_each: 1", "gpus_each: true", "`workers.gpus_each` (line 4) is True; allowed: a whole number at least 0 and at most 1"),
        ("source: json", "source: jsn", "`data.train.source` (line 6) is 'jsn'; allowed: one of text, json, csv, parquet, hub. Did you mean `json`?"),
        ("source: json, files: [corpus/*.jsonl.gz]", "source: hub", "`data.train.dataset` (line 6) is missing"),
        ("source: json, files: [corpus/*.jsonl.gz]", "source: json", "`data.train.files` (line 6) is missing"),
        ("[corpus/*.jsonl.gz]", "a.jsonl", "`data.train.files` (line 6) is 'a.jsonl'; allowed: a list, each text"),
        ("{source: text, files: [/data/valid.txt]}", "{fraction: 2}", "`data.valid.fraction` (line 7) is 2; allowed: a number above 0 and below 1"),
        ("{source: text, files: [/data/valid.txt]}", "3", "`data.valid` (line 7) is 3; allowed: settings: source"),
        ("stages:", "  sequence_tokens: 4\nstages:", "`data.sequence_tokens` (line 8) is 4; allowed: a whole number at least 8"),
        ("kind: load", "kind: lod", "`stages.parent.kind` (line 9) is 'lod'; allowed: one of load, grow, prune, head, distill, train, cross_fit, correct, evaluate, export. Did you mean `load`?"),
        ("kind: load, ", "", "`stages.parent.kind` (line 9) is missing; allowed: one of load"),
        ("model: owner/model", "model: a/b/c", "`stages.parent.model` (line 9) is 'a/b/c'; allowed: a hub name like owner/model, an absolute folder"),
        ("parameters: 95M", "parameters: 0.5", "`stages.slim.v2.target.parameters` (line 10) is 0.5; allowed: a whole number above 0"),
        ("parameters: 95M", "parameters: 95m", "is '95m'; allowed: a whole number above 0 and at most 1e+15, also written 95M"),
        ("parameters: 95M", "parameters: 1.2345k", "is '1.2345k'; allowed: a whole number"),
        ("parameters: 95M", "parameters: infM", "is 'infM'; allowed: a whole number"),
        ("{parameters: 95M}", "{}", "`stages.slim.v2.target.parameters` (line 10) is missing; allowed: either parameters or some of layers"),
        ("{parameters: 95M}", "{parameters: 95M, ffn: 3}", "`stages.slim.v2.target.parameters` (line 10) is 95000000; allowed: leave it out"),
        ("tokens: 1.5B", "", "`stages.heal.budget.tokens` (line 15) is missing; allowed: one of tokens, steps and epochs"),
        ("tokens: 1.5B", "tokens: 1, steps: 1", "`stages.heal.budget.steps` (line 15) is 1; allowed: leave it out"),
        ("sequences: 12,", "sequences: 13,", "`stages.heal.batch.sequences` (line 16) is 13; allowed: a multiple of microbatch_sequences 3"),
        ("sequences: 12,", "sequences: 9,", "`stages.heal.batch.sequences` (line 16) is 9; allowed: a multiple of 6, microbatch_sequences times workers.count"),
        ("weight: 0.7", "weight: 0", "`stages.heal.losses[0].weight` (line 18) is 0; allowed: a number at least 1e-06 and at most 1e+06"),
        ("weight: 0.7", "weight: .nan", "`stages.heal.losses[0].weight` (line 18) is '.nan'; allowed: a number at least 1e-06 and at most 1e+06"),
        ("weight: 0.7", "beta: 0.3", "`stages.heal.losses[0].beta` (line 18) is 0.3; allowed: leave it out; only jsd reads it"),
        ("weight: 0.7", "skew: 0.3", "`stages.heal.losses[0].skew` (line 18) is 0.3; allowed: leave it out; only skewed_forward_kl"),
        ("beta: 0.3", "beta: 1.0", "`stages.heal.losses[1].beta` (line 19) is 1.0; allowed: a number above 0 and below 1"),
        ("lr: 1e-4", "lr: 1e-320", "`stages.heal.optimizer.lr` (line 20) is 1e-320; allowed: a number at least 1e-10 and at most 10."),
        ("lr: 1e-4", "lr: 30.0", "`stages.heal.optimizer.lr` (line 20) is 30.0; allowed: a number at least 1e-10 and at most 10."),
        ("lr: 1e-4", "lr: 1e-4, weight_decay: 1e-320", "`stages.heal.optimizer.weight_decay` (line 20) is 1e-320; allowed: 0, or a size from 1e-30 to 1e+30"),
        ("lr: 1e-4", "lr: 1e-4, weight_decay: 1e9", "`stages.heal.optimizer.weight_decay` (line 20) is 1000000000.0; allowed: a number at least 0 and at most 10."),
        ("lr: 1e-4", "lr: 1e-4, betas: [0.9, 1e-310]", "`stages.heal.optimizer.betas` (line 20) is [0.9, 1e-310]; allowed: 0, or a size from 1e-30"),
        ("lr: 1e-4", "lr: 1e-4, eps: 1e-40", "`stages.heal.optimizer.eps` (line 20) is 1e-40; allowed: a number at least 1e-16 and at most 1."),
        ("lr: 1e-4", "lr: 1e-4, clip: 1e-300", "`stages.heal.optimizer.clip` (line 20) is 1e-300; allowed: a number at least 1e-06 and at most 1e+09."),
        ("weight: 0.7", "temperature: 1e300", "`stages.heal.losses[0].temperature` (line 18) is 1e+300; allowed: a number at least 0.01 and at most 100."),
        ("lr: 1e-4", "lr: 0", "`stages.heal.optimizer.lr` (line 20) is 0; allowed: a number at least 1e-10 and at most 10"),
        ("lr: 1e-4", "lr: 1e400", "`stages.heal.optimizer.lr` (line 20) is inf; allowed: a number at least 1e-10 and at most 10"),
        ("lr: 1e-4", "lr: true", "`stages.heal.optimizer.lr` (line 20) is True; allowed: a number at least 1e-10 and at most 10"),
        ("decay: 0.3", "decay: 0.95", "`stages.heal.optimizer.decay` (line 20) is 0.95; allowed: at most 0.9"),
        ("decay: 0.3", "betas: [0.9]", "`stages.heal.optimizer.betas[1]` (line 20) is missing; allowed: a number at least 0 and below 1"),
        ("decay: 0.3", "betas: [0.9, 1, 1]", "`stages.heal.optimizer.betas` (line 20) is (0.9, 1, 1); allowed: a list of 2"),
        ("    checkpoint:", "    lr: 3\n    checkpoint:", "`stages.heal.lr` (line 21) is no setting here"),
        ("every: 500 steps", "every: 0", "`stages.heal.checkpoint.every` (line 21) is 0; allowed: a whole number above 0"),
        ("every: 500 steps", "every: 500 tokens", "`stages.heal.checkpoint.every` (line 21) is '500 tokens'"),
        ("max: 1.25", "", "`stages.score.gate.perplexity_ratio.max` (line 22) is missing; allowed: min, max or both"),
        ("max: 1.25", "max: 1, min: 2", "`stages.score.gate.perplexity_ratio.min` (line 22) is 2"),
        ("against: [parent], ", "", "`stages.score.against` (line 22) is missing; allowed: a list of models"),
        ("  - {name: out, kind: export, model: heal}", "  - 3", "`stages[4]` (line 23) is 3; allowed: settings with one kind of load"),
        ("{name: out, ", '{name: "\\e[31m", ', "`stages[4].name` (line 23) is '\\x1b[31m'"),
    ],
)  # fmt: skip
def test_one_wrong_setting_is_refused_in_one_sentence(refuse, old: str, new: str, sentence: str) -> None:
    assert JOB.count(old) == 1
    said = refuse(JOB.replace(old, new))
    assert len(said) == 1
    assert sentence in said[0]


@pytest.mark.parametrize(
    ("old", "new", "near"),
    [("seed: 17", "sede: 17", "seed"), ("weight: 0.7", "wieght: 0.7", "weight"), ("    checkpoint:", "    lr: 3\n    checkpoint:", "optimizer.lr")],
)  # fmt: skip
def test_a_misspelt_or_misplaced_setting_is_recognised(refuse, old: str, new: str, near: str) -> None:
    assert refuse(JOB.replace(old, new))[0].endswith(f"Did you mean `{near}`?")


def test_all_faults_are_told_at_once(refuse) -> None:
    wrong = JOB.replace("seed: 17", "seed: x").replace("kind: load", "kind: lod").replace("lr: 1e-4", "lr: -1")
    assert [sentence.split("`")[1] for sentence in refuse(wrong)] == ["seed", "stages.parent.kind", "stages.heal.optimizer.lr"]  # fmt: skip


def test_stages_of_one_name_go_by_position(refuse) -> None:
    wrong = JOB.replace("name: heal", "name: parent").replace("lr: 1e-4", "lr: 0")
    assert refuse(wrong)[0].startswith("`stages[2].optimizer.lr` (line 20)")


def test_an_unknown_recipe_is_one_fault(refuse) -> None:
    text = JOB[: JOB.index("stages:")] + "recipe: {name: prune_than_distill, model: m}\n"
    said = refuse(text)
    assert len(said) == 1
    assert "`recipe.name` (line 8) is 'prune_than_distill'" in said[0]
    assert said[0].endswith("Did you mean `prune_then_distill`?")


def test_stages_or_a_recipe_but_one_of_them(refuse) -> None:
    recipe = (
        "recipe: {name: prune_then_distill, model: m, target: {layers: 3}, budget: {steps: 5}, batch: {sequences: 2}}\n"
    )
    assert "either a list of stages or a recipe" in refuse(JOB[: JOB.index("stages:")])[0]
    assert "leave it out, as the recipe makes the stages" in refuse(JOB + recipe)[0]


def test_paths_count_from_the_folder_of_the_job(job_file: Path) -> None:
    text = JOB.replace("/shared/runs", "./runs").replace("owner/model", "../models/m")
    job_file.write_text(text)
    job = read_job(job_file)
    assert job.storage == str(job_file.parent / "runs")
    assert job.stages[0].model == str(job_file.parent.parent / "models/m")
    assert job.data.train.files == (str(job_file.parent / "corpus/*.jsonl.gz"),)
    assert job.data.valid.files == ("/data/valid.txt",)


def test_a_model_of_the_hub_is_not_taken_for_a_folder(job_file: Path) -> None:
    assert read_job(job_file).stages[0].model == "owner/model"


def test_whole_numbers_pass_where_numbers_are_asked(job_file: Path) -> None:
    job_file.write_text(JOB.replace("lr: 1e-4", "lr: 1"))
    assert read_job(job_file).stages[2].optimizer.lr == 1.0


def test_refusals_cross_processes_whole() -> None:
    refused = RefusedInput([Fault("seed", 3, "less", near="x", line=7, given="is odd")])
    assert pickle.loads(pickle.dumps(refused)).faults == refused.faults


def test_what_is_said_does_not_steer_a_terminal() -> None:
    assert str(Fault("a\x1b[2J", None, "b")).isprintable()
