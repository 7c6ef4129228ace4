"""Find the job that a run is resumed with: that of its last start, with settings replaced that change no result."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import ValidationError

from espalier.config.document import Document
from espalier.config.explain import faults_of
from espalier.config.faults import Fault, RefusedInput
from espalier.config.overrides import apply_overrides
from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.jobs.schema import resolved
from espalier.planning.changes import changes_for
from espalier.stages.plan import build_plan
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions


def job_to_resume(folder: RunFolder, overrides: Sequence[str] = ()) -> Job:
    """The job of the run's last start, or of its last submission when none was started.

    Args:
        overrides: `a.b=value`; for settings such as `workers.count`, which change no result.

    Raises:
        RefusedInput: an override would change the results of what is under way, or there is no job.
    """
    old = _last_job(folder)
    new = _replaced(old, overrides)
    plan = build_plan(stages_of(new), context={})
    allowed = "the value that the run was started with; with another one submit the job file again, and its stages"
    changes = [change for stage in plan.stages for change in changes_for(stage.name, old, new, plan)]
    faults = [
        Fault(change.path, change.new, f"{change.old!r}, {allowed} are done again")
        for change in changes
        if change.alters_result
    ]
    if new.name != old.name or new.storage != old.storage:
        faults.append(Fault("name", f"{new.storage}/{new.name}", f"the run that is resumed, {folder.path}"))
    if faults:
        raise RefusedInput(dict.fromkeys(faults))
    return new.model_copy(update={"resume": "auto"})


def _last_job(folder: RunFolder) -> Job:
    submissions = Submissions(folder)
    newest = submissions.newest()
    if newest is not None and submissions.begun(newest) is None:
        return submissions.job(newest)
    try:
        job = folder.read_job()
    except FileNotFoundError:
        if newest is None:
            allowed = "a run that was started; this one has neither job.json nor a submission"
            raise RefusedInput([Fault("run", str(folder.path), allowed)]) from None
        return submissions.job(newest)
    return job if folder.path == folder.of(job).path else _moved(job, folder)


def _moved(job: Job, folder: RunFolder) -> Job:
    """The job of a run whose storage is mounted elsewhere than where it was started."""
    return job.model_copy(update={"storage": str(folder.path.parent), "name": folder.path.name})


def _replaced(job: Job, overrides: Sequence[str]) -> Job:
    document = apply_overrides(Document(json.loads(json.dumps(resolved(job))), {}), overrides)
    try:
        return Job.model_validate(document.values)
    except ValidationError as error:
        raise RefusedInput(faults_of(error, document, Job)) from None
