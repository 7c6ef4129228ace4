"""The `espalier` command: subcommands, flags and exit codes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from espalier import __version__
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.jobs.recipe import stages_of
from espalier.jobs.schema import job_schema, resolved
from espalier.stages.controller import ExitCode
from espalier.stages.graph import graph_faults
from espalier.stages.run_folder import RunFolder
from espalier_cluster.audit_commands import score, suspects
from espalier_cluster.cluster_commands import logs, resume, stop, submit, sync
from espalier_cluster.doctor import doctor
from espalier_cluster.status_commands import list_runs, status, wait
from espalier_cluster.terminal import open_terminal, print_path, say
from espalier_cluster.told import told

if TYPE_CHECKING:
    from espalier_cluster.drive import HowToRun
    from espalier_cluster.preflight_table import Preflight

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Grow, prune, distill and correct language models on a Ray cluster, resumable anywhere. "
    "Exit codes: 0 done, 1 error, 2 refused input, 3 gate failed, 75 stopped but resumable; 124 when `wait` times out.",
)
checkpoint = typer.Typer(no_args_is_help=True, help="Look at a run's checkpoints, while it goes on or after it.")
app.add_typer(checkpoint, name="checkpoint")
JobFile = Annotated[Path, typer.Argument(help="The job file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings that replace the file's: `a.b=value`.", show_default=False),
]
OfRun = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]


def main() -> None:
    """Entry point: refused input and errors become a sentence and an exit code."""
    raise SystemExit(told(lambda: app(prog_name="espalier")).code)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"espalier {__version__}")
        raise typer.Exit


def _read_job(job_file: Path, overrides: list[str] | None) -> Job:
    """Read a job file; warnings go to stderr, because stdout may be read by a script."""
    return read_job(job_file, overrides or (), warn=lambda text: say(open_terminal(stderr=True), f"warning: {text}"))


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def plan(
    job_file: JobFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    address: Annotated[str | None, typer.Option(help="Ask this Ray cluster, too, whether it has the room.")] = None,
    insecure: Annotated[bool, typer.Option(help="Join a cluster that no token protects.")] = False,
) -> None:
    """Show what a job will do and cost. Starts nothing."""
    from espalier.planning.prepare import prepare
    from espalier.stages.ownership import require_own
    from espalier_cluster.local_resources import room_line
    from espalier_cluster.resume import refuse_exports, refuse_lost_work, repeated_stage_messages
    from espalier_cluster.show import plan_json, show_plan

    prepared = prepare(_read_job(job_file, overrides))
    if as_json:
        print(plan_json(prepared.previews))
        return
    folder = RunFolder.of(prepared.job)
    require_own(folder)
    refuse_exports(prepared, folder)
    refuse_lost_work(prepared, folder)
    done = [s.name for s in prepared.plan.stages if (r := folder.result(s.name)) is not None and r.key == s.key]
    console = open_terminal()
    show_plan(console, prepared, done)
    for sentence in repeated_stage_messages(prepared, folder):
        say(console, sentence)
    if address is None:
        say(console, room_line(prepared))
        return
    from espalier_cluster.checked_start import check_room
    from espalier_cluster.drive import HowToRun

    check_room(prepared, HowToRun(address=address, insecure=insecure), console)


@app.command()
def run(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, `host:port` or `auto`; left out: a local one.")
    ] = None,
    insecure: Annotated[bool, typer.Option(help="Join a cluster that no token protects.")] = False,
    in_process: Annotated[bool, typer.Option(help="One worker in this process, without Ray.")] = False,
    verbose: Annotated[bool, typer.Option(help="Let Ray, DeepSpeed and transformers speak.")] = False,
    submission: Annotated[str | None, typer.Option(hidden=True, help="What `submit` starts this command for.")] = None,
    scheduled: Annotated[
        bool,
        typer.Option(help="For schedulers that start it again: exit with 0 after `espalier stop`, keep the log."),
    ] = False,
) -> None:
    """Run a job, or go on with one that was stopped."""
    from espalier_cluster.drive import HowToRun
    from espalier_cluster.preflight_table import Preflight

    how = HowToRun(
        address=address,
        insecure=insecure,
        in_process=in_process,
        verbose=verbose,
        submission=submission,
        scheduled=scheduled,
    )
    if submission is None and scheduled:
        from espalier_cluster.scheduled import drive_scheduled

        raise SystemExit(
            drive_scheduled(_read_job(job_file, overrides), lambda: _run(job_file, overrides, how, Preflight()))
        )
    if submission is None:
        _run(job_file, overrides, how, Preflight())
    from espalier_cluster.submitted import drive_submission

    raise SystemExit(drive_submission(job_file, str(submission), partial(_run, job_file, overrides, how)))


def _run(job_file: Path, overrides: list[str] | None, how: HowToRun, preflight: Preflight) -> NoReturn:
    from espalier_cluster.checked_start import checked_start
    from espalier_cluster.drive import drive
    from espalier_cluster.local_cluster import require_access
    from espalier_cluster.log_filter import filter_logs

    job = _read_job(job_file, overrides)
    if not how.in_process:
        with filter_logs(verbose=how.verbose):  # which has to be there when Ray is imported first
            require_access(how.address, insecure=how.insecure)  # before the text is read
    with checked_start(job, how, preflight) as (prepared, joined):
        if job.seeds == 1:
            raise SystemExit(drive(prepared, joined, open_terminal()))
    from espalier_cluster.seeds import run_seeds

    peaks = (preview.memory.total for preview in prepared.previews if preview.memory)
    raise SystemExit(run_seeds(job, how, open_terminal(), worker_bytes=int(max(peaks, default=0))))


@app.command()
def validate(job_file: JobFile, overrides: Overrides = None) -> None:
    """Check a job file and print it with every default filled in."""
    job = _read_job(job_file, overrides)
    if faults := graph_faults(stages_of(job)):
        raise RefusedInput(faults)
    print(json.dumps(resolved(job), indent=2))


@app.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors."""
    print(json.dumps(job_schema(), indent=2))


def _topics_beginning(word: str) -> list[str]:
    from espalier.jobs.settings import topics

    return [name for name in topics() if name.startswith(word)]


@app.command()
def explain(
    topic: Annotated[
        str | None,
        typer.Argument(help="A kind of stage, a recipe, or a part of the job.", autocompletion=_topics_beginning),
    ] = None,
) -> None:
    """Tell every setting of a kind of stage or a recipe: its default, what it takes, what it does."""
    from espalier_cluster.explain import explain_topic, explain_topics

    console = open_terminal()
    explain_topics(console) if topic is None else explain_topic(console, topic)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    stage: Annotated[str, typer.Argument(help="The stage whose model is wanted.")],
    target: Annotated[Path, typer.Argument(help="The folder to write.")],
    dtype: Annotated[str, typer.Option(help="bfloat16 or float32.")] = "bfloat16",
) -> None:
    """Write the model of any finished stage as a plain Hugging Face folder."""
    from espalier.kinds.export.work import export_stage

    export_stage(run_folder, stage, target, dtype=dtype)
    print_path(target)


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(help="The folder of a run.")]) -> None:
    """Write the run's page, report.html, and print where it is."""
    from espalier.report.page import write_report

    require_run(run_folder)
    print_path(write_report(run_folder))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", show_default=False)],
    baseline: Annotated[
        str | None, typer.Option(help="The training that others are held against, by its name.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write charts and table to this HTML file, too.")] = None,
) -> None:
    """Set trainings beside each other: loss, FLOPs, seconds, and what the baseline's final loss took each."""
    from espalier.report.compare import baseline_of, write_page
    from espalier.report.compare import compare as compare_curves
    from espalier.report.run import damage_refused
    from espalier.report.training_curves import TrainingCurve, read_training_curves
    from espalier_cluster.show import show_grid

    for folder in runs:
        require_run(folder)
    if page is not None and (page.is_dir() or not page.absolute().parent.is_dir()):
        raise RefusedInput([Fault("--page", str(page), "a file in a folder that exists")])
    curves: list[TrainingCurve] = []
    for folder in runs:
        with damage_refused(folder):
            curves += read_training_curves([folder])
    if not curves:
        raise RefusedInput([Fault("runs", str(runs[0]), "runs in which a stage has trained")])
    with damage_refused(runs[0]):
        comparison = compare_curves(curves, baseline_of(curves, baseline))
    show_grid(open_terminal(), comparison.grid, comparison.sentence)
    if page is not None:
        write_page(comparison, page)
        print_path(page)


for cluster_command in (submit, status, wait, logs, stop, resume, sync):
    app.command()(cluster_command)
app.command("list")(list_runs)
app.command()(suspects)
app.command()(score)
app.command()(doctor)


def require_run(folder: Path) -> None:
    """Refuse a folder that holds no run, or whose plan is none."""
    if not RunFolder(folder).plan():
        allowed = "the folder of a run, `<storage>/<job name>`; this one holds no plan.json"
        raise RefusedInput([Fault("run_folder", str(folder), allowed)])


@checkpoint.command("list")
def list_checkpoints(run_folder: OfRun) -> None:
    """List the checkpoints of a run: when each was made, by which workers, and its size."""
    from espalier_cluster.checkpoints import find_checkpoints
    from espalier_cluster.show_checkpoints import show_list

    show_list(open_terminal(), find_checkpoints(run_folder))


@checkpoint.command("verify")
def verify_checkpoints(
    run_folder: OfRun,
    stage: Annotated[str | None, typer.Option(help="Only this stage's.")] = None,
) -> None:
    """Read every file of every checkpoint and hold it to its hash. Exit code 1 when one is damaged."""
    from espalier_cluster.checkpoints import find_checkpoints
    from espalier_cluster.show_checkpoints import verify_all

    if not verify_all(open_terminal(), run_folder, find_checkpoints(run_folder, stage=stage)):
        raise SystemExit(ExitCode.ERROR)


@checkpoint.command("show")
def show_checkpoint(
    checkpoint_folder: Annotated[Path, typer.Argument(help="`<run>/stages/<stage>/step-<number>`.")],
) -> None:
    """Show what a checkpoint holds and where it comes from."""
    from espalier_cluster.show_checkpoints import show_one

    show_one(open_terminal(), checkpoint_folder)


if __name__ == "__main__":
    main()
