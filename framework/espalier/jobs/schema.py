"""A job as JSON with all defaults, and the JSON schema of job files."""

from __future__ import annotations

from typing import Any

from espalier.jobs.job import Job


def resolved(job: Job) -> dict[str, Any]:
    """The job as JSON values with every default filled in; `Job.model_validate` takes it back unchanged."""
    return job.model_dump(mode="json")


def job_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a job file, for completion and checks while one is written."""
    schema = Job.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "espalier job"}
