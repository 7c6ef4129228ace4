"""What a person does next with a run: the exact command."""

from __future__ import annotations

import shlex

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.status.standing import Standing


def next_step(folder: RunFolder, standing: Standing) -> str:
    """A command that can be pasted, from any folder."""
    run = shlex.quote(str(folder.path))
    if standing.state == "stopping":
        return f"espalier wait {run}"
    if standing.goes_on:
        return f"espalier logs {run} --follow" if _was_submitted(standing) else f"espalier stop {run}"
    if standing.state in ("done", "gate_failed"):
        return f"espalier report {run}"
    return resume_command(folder, standing)


def resume_command(folder: RunFolder, standing: Standing) -> str:
    """The command that goes on with a run, as it was started last: submitted, or by a person's `espalier run`."""
    run = shlex.quote(str(folder.path))
    if standing.submission is not None and (_was_submitted(standing) or standing.driver is None):
        return f"espalier resume {run}"
    options = standing.driver.options if standing.driver else ()
    return shlex.join(["espalier", "run", str(folder.path / "job.json"), *options, *_resume(folder)])


def _was_submitted(standing: Standing) -> bool:
    """Whether the last driver was a submission's, or the submission is newer than the last driver."""
    is_its_driver = standing.driver is not None and standing.driver.submission is not None
    return standing.submission is not None and (is_its_driver or standing.is_newly_submitted)


def _resume(folder: RunFolder) -> list[str]:
    """A setting of the job that would begin anew once more is replaced."""
    try:
        asked = folder.job_values().get("resume", "auto")
    except RefusedInput:
        return []
    return [] if asked == "auto" else ["resume=auto"]
