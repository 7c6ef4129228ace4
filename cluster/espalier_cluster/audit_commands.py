"""The commands `suspects` and `score`: what a run says of its labels, and a model's answers for new data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier_cluster.terminal import open_terminal, print_path, say

_SHOWN = 20


def suspects(
    run_folder: Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)],
    top: Annotated[
        int | None, typer.Option(min=1, help="The most suspect ones, so many; left out: all that are doubted.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="A `correct` or `cross_fit` stage; left out: the last.")] = None,
    apply: Annotated[Path | None, typer.Option(help="An edited table; write a corrected copy of the data.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write: suspects, or with --apply the copy.")] = None,
) -> None:
    """List the labels that a run doubts most; write them to a table; apply the table that somebody has edited."""
    from espalier.audit.fixes import read_fixes, write_corrected, write_fixes
    from espalier.audit.judged_labels import read_judged_labels
    from espalier.config.faults import Fault, RefusedInput
    from espalier_cluster.command import require_run
    from espalier_cluster.show_samples import show_judged

    require_run(run_folder)
    if apply is not None and out is None:
        raise RefusedInput([Fault("--out", None, "with --apply the file to write the corrected table to")])
    judged = read_judged_labels(run_folder, stage=stage)
    console = open_terminal(stderr=out is not None)
    if apply is not None and out is not None:
        fixes = read_fixes(apply, judged)
        write_corrected(out, judged, fixes, fixes_file=apply)
        left = fixes.kept + fixes.undecided
        counts = f"labels changed: {len(fixes.labels)}, rows dropped: {len(fixes.dropped)}"
        say(console, f"{counts}, left as they are: {left}")
        setting = f"{judged.setting}.train.files=[{out.absolute()}]"
        say(console, f"to train on it: espalier run JOB {setting} name={judged.job.name}-fixed")
        print_path(out)
        return
    samples = judged.suspects(top)
    if out is not None:
        write_fixes(out, judged, samples)
        say(
            console, f"{len(samples)} suspects; write keep, drop or a label into the column `decision`, then --apply it"
        )
        print_path(out)
        return
    show_judged(console, judged, samples if top is not None else samples[:_SHOWN])


def score(
    export: Annotated[Path, typer.Argument(help="The folder of an exported model.", show_default=False)],
    table: Annotated[Path, typer.Argument(help="csv, tsv, JSON lines or parquet, packed or not.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write an answer for each row to this csv file.")] = None,
    against: Annotated[Path | None, typer.Option(help="A run whose validation samples tell what is usual.")] = None,
    text: Annotated[str | None, typer.Option(help="The column; left out: the one of the training table.")] = None,
    pair: Annotated[str | None, typer.Option(help="The second text's column; left out: as in training.")] = None,
    id: Annotated[str | None, typer.Option(help="A column that names each row; left out: its number.")] = None,
    tokens: Annotated[int | None, typer.Option(min=8, help="Where texts are cut; left out: as in training.")] = None,
    skip_blank: Annotated[bool, typer.Option(help="Leave out rows without text.")] = False,
) -> None:
    """Answer for new data by an exported classifier or regressor; --against a run, tell how the data has drifted."""
    from espalier.audit.exported_model import ExportedModel
    from espalier.audit.scoring import NewData, known_answers
    from espalier.audit.scoring import score as score_table
    from espalier.config.faults import Fault, RefusedInput
    from espalier_cluster.command import require_run
    from espalier_cluster.show_scores import ScoreProgress, show_scores

    if against is not None:
        require_run(against)
    console = open_terminal(stderr=out is not None)
    model = ExportedModel.open(export, setting="EXPORT")
    known, of_run = (None, None) if against is None else known_answers(model, against)
    max_tokens = tokens or (model.read_as.sequence_tokens if model.read_as else of_run)
    if max_tokens is None:
        allowed = "the sequence_tokens of its training, which this export does not tell; or --against its run"
        raise RefusedInput([Fault("--tokens", None, allowed)])
    asked = {"text": text or (model.read_as.text if model.read_as else "text"), "id": id}
    asked["pair"] = pair or (model.read_as.pair if model.read_as else None)
    data = NewData(table, {use: name for use, name in asked.items() if name}, skip_blank=skip_blank)
    progress = ScoreProgress(open_terminal(stderr=True))
    scores = score_table(model, data, max_tokens=max_tokens, known=known, out=out, on_progress=progress)
    show_scores(console, scores, model.names, max_tokens=max_tokens)
    if out is not None:
        print_path(out)
