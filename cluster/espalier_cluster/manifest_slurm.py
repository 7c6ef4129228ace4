"""A Slurm script for a job: a Ray cluster on its nodes, the driver on the first one, queued again when asked to go."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files

from espalier.jobs.job import Job
from espalier.jobs.schema import resolved
from espalier_cluster.manifest_settings import SlurmSettings, workers_per_node

_SPARE_CPUS = 2  # of each node: for Ray, and on the first one for the driver
_MORE_SECONDS = 90  # beyond the job's own grace: the driver closes its trackers and writes its report
_CHECK = "# shellcheck disable=SC2329  # functions are called by name"
_END = "ESPALIER_JOB"


def slurm_script(job: Job, settings: SlurmSettings) -> str:
    """The script, for `sbatch`.

    Raises:
        RefusedInput: the workers cannot be spread over equal nodes.
    """
    each = workers_per_node(job, settings.workers_per_node, path="deploy.workers_per_node")
    cpus, gpus = each * job.workers.cpus_each, each * job.workers.gpus_each
    options = {
        "job-name": job.name,
        "nodes": job.workers.count // each,
        "ntasks-per-node": 1,
        "cpus-per-task": cpus + _SPARE_CPUS,
        "gpus-per-node": gpus or None,
        "mem": settings.memory,
        "time": settings.time,
        "partition": settings.partition,
        "account": settings.account,
        "output": "%x-%j.out",
        "open-mode": "append",
        "signal": f"B:USR1@{int(job.retry.grace_seconds) + _MORE_SECONDS}",
    }
    header = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    settled = [f"storage={shlex.quote(job.storage)}", f"cpus_per_node={cpus}", f"gpus_per_node={gpus}"]
    if settings.environment is not None:
        settled.append(f"PATH={shlex.quote(settings.environment)}/bin:$PATH")
    content = json.dumps(resolved(job), indent=2, allow_nan=False)
    described = ["job() {", f"    cat <<'{_END}'", content, _END, "}"]
    lines = ["#!/bin/bash", _CHECK, *header, "#SBATCH --requeue", "", *settled, "", *described, ""]
    return "\n".join(lines) + "\n" + files("espalier_cluster").joinpath("slurm_job.sh").read_text()
