"""A job as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.jobs.schema import job_schema, resolved


def test_a_resolved_job_is_json_with_every_default_and_reads_back_equal(job_file: Path) -> None:
    job = read_job(job_file)
    values = json.loads(json.dumps(resolved(job), allow_nan=False))
    assert values["stages"][2]["optimizer"]["betas"] == [0.9, 0.95]
    assert values["tracking"]["wandb"]["mode"] == "auto"
    assert Job.model_validate(values) == job


def test_the_schema_names_every_setting_and_what_it_means() -> None:
    schema = job_schema()
    assert set(schema["properties"]) == set(Job.model_fields)
    kinds = schema["properties"]["stages"]["items"]["discriminator"]["mapping"]
    assert set(kinds) == {
        "load",
        "grow",
        "prune",
        "head",
        "distill",
        "train",
        "cross_fit",
        "correct",
        "evaluate",
        "export",
    }
    assert "description" in schema["$defs"]["OptimizerConfig"]["properties"]["warmup"]
    assert all("description" in definition for definition in schema["$defs"].values())
    count = schema["$defs"]["WorkersConfig"]["properties"]["count"]
    assert count["type"] == ["integer", "string"]  # editors must not underline 95M


def test_reading_a_job_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "datasets", "deepspeed", "ray", "wandb", "numpy"}
    ours = "espalier.jobs.load, espalier.config.files, espalier.jobs.schema"
    code = f"import sys, {ours}; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
