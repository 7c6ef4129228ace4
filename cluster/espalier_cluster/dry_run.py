"""`submit --dry-run`: what would be given to a scheduler, as text, for a person to read, change and keep."""

from __future__ import annotations

import json
from collections.abc import Sequence

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from espalier_cluster.jobs_server import start_body
from espalier_cluster.manifest_settings import KubeRaySettings, SlurmSettings, read_settings
from espalier_cluster.submit import entrypoint, metadata, own_versions


def dry_run(job: Job, scheduler: str, overrides: Sequence[str], *, insecure: bool = False) -> str:
    """The KubeRay manifest, the Slurm script, or the body of the request to Ray's Jobs server for a job.

    Nothing is written, and nobody is asked.

    Args:
        scheduler: kuberay, slurm or rest.
        overrides: settings of the manifest, `deploy.name=value`.

    Raises:
        RefusedInput: the scheduler cannot have such a job, or knows no such setting.
    """
    if scheduler == "kuberay":
        from espalier_cluster.manifest_kuberay import kuberay_yaml

        return kuberay_yaml(job, read_settings(KubeRaySettings, overrides))
    if scheduler == "slurm":
        from espalier_cluster.manifest_slurm import slurm_script

        return slurm_script(job, read_settings(SlurmSettings, overrides))
    if overrides:
        raise RefusedInput(
            [Fault(overrides[0].partition("=")[0], None, "left out with --dry-run rest", given="is set")]
        )
    return rest_body(job, insecure=insecure)


def rest_body(job: Job, *, insecure: bool) -> str:
    """What `submit` would send to `/api/jobs/`, after it has written the job file that is named in it."""
    submissions = Submissions(RunFolder.of(job))
    submission, _ = submissions.draft(job, session="", address="", versions=own_versions())
    command = entrypoint(submission, submissions, insecure)
    return json.dumps(start_body(submission.id, command, metadata(submission, submissions)), indent=2) + "\n"
