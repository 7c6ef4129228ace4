"""Where a run goes on: where it was, from its beginning, or from an older checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.planning.prepare import PreparedJob
from espalier.stages.run_folder import RunFolder


def go_back(prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove what `resume` says not to go on from: nothing (auto), everything (never), what is newer (a checkpoint).

    Raises:
        RefusedInput: the path is no checkpoint of a stage of this run.
    """
    resume = prepared.job.resume
    if resume == "auto":
        return
    if resume == "never":
        for old in ("stages", "records", "exports", "run.json"):
            _remove(folder.path / old)
        return
    checkpoint = Path(resume).resolve()
    stage = checkpoint.parent.name
    names = [one.name for one in prepared.plan.stages]
    if checkpoint.parent.parent != (folder.path / "stages").resolve() or stage not in names:
        allowed = f"auto, never, or a checkpoint of this run: {folder.path}/stages/<stage>/step-<number>"
        raise RefusedInput([Fault("resume", resume, allowed)])
    for newer in sorted(checkpoint.parent.glob("step-*")):
        if newer.name > checkpoint.name:
            _remove(newer)
    for later in names[names.index(stage) :]:
        _remove(folder.stage(later) / "result.json")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
