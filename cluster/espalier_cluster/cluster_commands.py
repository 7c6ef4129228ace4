"""The commands for runs on a cluster that somebody else keeps: submit, logs, stop, resume; and sync."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.jobs.recipe import stages_of
from espalier.stages.controller import ExitCode
from espalier.stages.graph import graph_faults
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submission, Submissions
from espalier.tracking.number_format import plain_text
from espalier_cluster.driver_log import parts
from espalier_cluster.jobs_address import names_a_cluster
from espalier_cluster.jobs_server import JobsServer
from espalier_cluster.log_reader import DriverLines, LogFile, RunEnd, follow
from espalier_cluster.named_run import find_run
from espalier_cluster.preflight_table import show_checks
from espalier_cluster.terminal import open_terminal, say


def _runs_beginning(word: str) -> list[str]:
    from espalier_cluster.named_run import names_in

    return [] if "/" in word else [name for name in names_in() if name.startswith(word)]


Named = Annotated[
    str,
    typer.Argument(
        help="A run: its folder, or its name in the storage.", show_default=False, autocompletion=_runs_beginning
    ),
]
Storage = Annotated[
    Path | None, typer.Option(help="Where names are looked up; left out: $ESPALIER_STORAGE, or the current folder.")
]
Address = Annotated[
    str | None, typer.Option(help="The cluster: `auto`, `host:port` of its head, or `http://host:port`.")
]
Scheduler = Literal["kuberay", "slurm", "rest"]
Insecure = Annotated[bool, typer.Option(help="Use a cluster that no token protects.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show its log until it ends; exit with its exit code.")]
JobFile = Annotated[Path, typer.Argument(help="The job file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings that replace the file's: `a.b=value`.", show_default=False),
]


def submit(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    insecure: Insecure = False,
    follow: Follow = False,
    dry_run: Annotated[
        Scheduler | None, typer.Option(help="Print what this scheduler would be given; nothing is started.")
    ] = None,
) -> None:
    """Start a run on a cluster, or find it there; it goes on without this command.

    Example: espalier submit job.yaml --address http://127.0.0.1:8265 --follow storage=/shared/runs
    """
    from espalier_cluster.manifest_settings import split_overrides

    own, deploy = split_overrides(overrides or ())
    if deploy and dry_run is None:
        raise RefusedInput([Fault(deploy[0].partition("=")[0], None, "left out without --dry-run", given="is set")])
    job = read_job(job_file, own, warn=lambda text: say(open_terminal(stderr=True), f"warning: {text}"))
    if dry_run is not None:
        _print_dry_run(job, dry_run, deploy, insecure=insecure)
        return
    _submit(job, address=address, insecure=insecure, follow_log=follow)


def logs(
    run: Named,
    storage: Storage = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    stage: Annotated[str | None, typer.Option(help="Only the progress of this stage.")] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="The log of this worker instead of the driver's.")] = None,
) -> None:
    """Show what a run has printed, from its folder: also when its cluster is gone.

    Example: espalier logs /shared/runs/slim --follow
    """
    folder = find_run(run, storage)
    submission = Submissions(folder).newest()
    if rank is None and submission is None and not parts(folder.files):
        allowed = "a run of a cluster or scheduler; one of `espalier run` prints to its terminal: give --rank"
        raise RefusedInput([Fault("run", str(folder.path), allowed)])
    if stage is not None and rank is not None:
        raise RefusedInput([Fault("--stage", stage, "left out with --rank, as workers' logs are of all stages")])
    _show_log(folder, submission, rank=rank, stage=stage, until_end=follow)


def stop(
    run: Named,
    storage: Storage = None,
    address: Address = None,
    insecure: Insecure = False,
    now: Annotated[bool, typer.Option("--now", help="Do not finish the step and do not save.")] = False,
    preempted: Annotated[bool, typer.Option("--preempted", help="For schedulers: the run is started again.")] = False,
) -> None:
    """Have a run save, stop and leave its cluster; `espalier resume` goes on with it.

    Example: espalier stop slim --storage /shared/runs
    """
    from espalier_cluster.stop import Stopper
    from espalier_cluster.stop import stop as stop_run

    folder = find_run(run, storage)
    console = open_terminal()
    server = _server_of(folder, address, insecure=insecure, console=console)
    code, sentence = stop_run(Stopper(folder, server), now=now, preempted=preempted)
    say(console, sentence, style="red" if code else None)
    raise SystemExit(code)


def resume(
    run: Named,
    overrides: Overrides = None,
    storage: Storage = None,
    address: Address = None,
    insecure: Insecure = False,
    follow: Follow = False,
) -> None:
    """Go on with a run that has stopped, on the cluster that it was on or another one.

    Example: espalier resume slim --storage /shared/runs workers.count=4
    """
    from espalier_cluster.resume_point import find_resume_point
    from espalier_cluster.resume_run import job_to_resume

    folder = find_run(run, storage)
    job = job_to_resume(folder, overrides or ())
    point = find_resume_point(folder)
    console = open_terminal()
    say(console, f"{job.name}: {point}, now on {job.workers.count} worker{'s' * (job.workers.count != 1)}")
    if point.is_planned and not point.stage:
        raise SystemExit(ExitCode.DONE)
    _submit(job, address=address or _last_address(folder), insecure=insecure, follow_log=follow)


def sync(run: Named, overrides: Overrides = None, storage: Storage = None) -> None:
    """Send W&B and the run's other trackers what they lack of it, each step once.

    Example: espalier sync slim --storage /shared/runs tracking.wandb.mode=online
    """
    from espalier_cluster.resume_run import job_to_resume
    from espalier_cluster.sync import sync as sync_run

    folder = find_run(run, storage)
    raise SystemExit(sync_run(folder, job_to_resume(folder, overrides or ()), open_terminal()))


def _print_dry_run(job: Job, scheduler: Scheduler, deploy: list[str], *, insecure: bool) -> None:
    from espalier_cluster.dry_run import dry_run
    from espalier_cluster.secret_text import refuse_secrets

    if faults := graph_faults(stages_of(job)):
        raise RefusedInput(faults)
    refuse_secrets(job)
    sys.stdout.write(dry_run(job, scheduler, deploy, insecure=insecure))
    if scheduler == "rest":
        note = "nothing was written: `submit` writes the job and the record of the submission before it sends this"
        say(open_terminal(stderr=True), note)


def _submit(job: Job, *, address: str | None, insecure: bool, follow_log: bool) -> None:
    from espalier_cluster.jobs_address import connect
    from espalier_cluster.secret_text import refuse_secrets
    from espalier_cluster.submit import Client
    from espalier_cluster.submit import submit as submit_run

    if faults := graph_faults(stages_of(job)):
        raise RefusedInput(faults)
    refuse_secrets(job)
    console = open_terminal()
    server = connect(address, insecure=insecure)
    folder = RunFolder.of(job)
    told = submit_run(job, Client(server, insecure=insecure, on_checks=partial(show_checks, console)))
    verb = "submitted" if told.is_new else "goes on already"
    waits = "" if told.has_begun else "; its driver has not begun yet: the cluster has to start it, or it checks still"
    say(console, f"{job.name} {verb} as {told.submission.id} at {server.address}{waits}")
    commands = (("watch", "logs --follow"), ("look", "status"), ("stop", "stop"))
    say(console, "  " + ";  ".join(f"{what}: espalier {command} {folder.path}" for what, command in commands))
    if follow_log:
        _show_log(folder, told.submission, until_end=True, server=server)


def _show_log(
    folder: RunFolder,
    submission: Submission | None,
    *,
    rank: int | None = None,
    stage: str | None = None,
    until_end: bool = False,
    server: JobsServer | None = None,
) -> None:
    """Print the log of the driver or of a worker; after the end of a followed submission exit with its exit code."""
    lines = DriverLines(folder).new_lines if rank is None else _lines_of(folder, rank)
    shown = follow(lines, RunEnd(folder, submission, server=server).is_over) if until_end else lines()
    for line in shown:
        text = line.decode(errors="replace")
        if stage is None or f"] {stage} " in text:
            print(plain_text(text), flush=until_end)
    if until_end and submission is not None:
        ended = Submissions(folder).ended(submission)
        if ended is None:
            say(open_terminal(stderr=True), "nothing was heard of the driver any more; `espalier resume` goes on")
        sys.stdout.flush()
        raise SystemExit(ExitCode.RESUMABLE if ended is None else ended.exit_code)


def _lines_of(folder: RunFolder, rank: int) -> Callable[[], Iterator[bytes]]:
    file = folder.path / "logs" / f"worker-{rank}.log"
    if not file.exists():
        known = sorted(one.name for one in file.parent.glob("worker-*.log"))
        raise RefusedInput(
            [Fault("--rank", rank, f"a worker of this run that has started: {', '.join(known) or 'none'}")]
        )
    return LogFile(file).new_lines


def _server_of(folder: RunFolder, address: str | None, *, insecure: bool, console: Console) -> JobsServer | None:
    """The cluster of a run's last submission; None, with a sentence, when it cannot be asked."""
    from espalier_cluster.jobs_address import connect

    if Submissions(folder).newest() is None:
        return None
    try:
        return connect(address or _last_address(folder), insecure=insecure)
    except RefusedInput as refused:
        if address is not None:
            raise
        say(console, f"its cluster cannot be asked ({refused.faults[0]}); the wish waits in the run's folder")
        return None


def _last_address(folder: RunFolder) -> str | None:
    """The cluster of a run's last submission; None when there is none, or Ray's variables name one."""
    newest = Submissions(folder).newest()
    return None if newest is None or names_a_cluster() else newest.address
