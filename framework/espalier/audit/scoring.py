"""Answers of an exported model for a table of new data, row by row into a file that is kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from espalier.audit.drift import AnswerRecord, Drift, drift
from espalier.audit.exported_model import Answered, ExportedModel, unlabelled
from espalier.audit.judged_labels import require_unchanged
from espalier.audit.written import require_replaceable, written
from espalier.config.data import OriginConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import read_labelled
from espalier.data.rows import TableRow, Wanted, bad_row, is_blank, read_rows
from espalier.jobs.data_sets import data_path, data_sets, faults_of_data_set
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import xxh3_of
from espalier.tracking.csv_cells import csv_cell

_SOURCES: dict[str, Literal["csv", "tsv", "json", "parquet"]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_BLOCK_ROWS = 1024
_MOST_COLUMNS = 16  # classes whose probabilities all get a column


@dataclass(frozen=True)
class NewData:
    """A table of new data.

    Attributes:
        columns: use (`text`, `pair`, `id`) -> the column's name.
    """

    path: Path
    columns: Mapping[str, str]
    skip_blank: bool = False

    def rows(self) -> Iterator[TableRow]:
        """Every row; see `read_rows`.

        Raises:
            RefusedInput: a damaged table, missing columns, blank texts.
        """
        bare = self.path.with_suffix("") if self.path.suffix in _PACKED else self.path
        if bare.suffix not in _SOURCES:
            raise RefusedInput([Fault("TABLE", str(self.path), f"a file that ends in {', '.join(_SOURCES)}")])
        origin = OriginConfig(
            source=_SOURCES[bare.suffix], files=(str(self.path.absolute()),), skip_blank=self.skip_blank
        )
        with _faults_of_options():
            for row in read_rows(origin, Wanted("TABLE", self.columns)):
                if not (self.skip_blank and is_blank(row.values["text"])):
                    yield row


@dataclass(frozen=True)
class Scores:
    """What came of scoring a table.

    Attributes:
        record: of all rows.
        num_cut: rows whose text is as long as the model reads, so its end may be missing.
        drift: None without data to compare with.
    """

    record: AnswerRecord
    num_cut: int
    drift: Drift | None


def score(
    model: ExportedModel,
    data: NewData,
    *,
    max_tokens: int,
    known: AnswerRecord | None = None,
    out: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Answer for every row of a table; memory does not grow with the texts.

    Args:
        max_tokens: longer texts are cut, as in training.
        known: what the same model answered for known data, to compare with.
        out: csv file with a row for each row of the table; its record beside it says what it was made from.
        on_progress: called with the number of rows answered so far.

    Raises:
        RefusedInput: a table that cannot be read, or `out` where something else lies.
    """
    if out is None:
        found = _scores(model, _answered(model, data, max_tokens, on_progress), max_tokens, known, None)
        return found
    require_replaceable(out, setting="--out")
    facts: dict[str, Any] = {"export": str(model.folder), "export_xxh3": model.xxh3, "table": str(data.path)}
    facts |= {"table_xxh3": xxh3_of(data.path) if data.path.is_file() else "", "columns": dict(data.columns)}
    facts |= {"sequence_tokens": max_tokens, "device": model.world.device.type}
    with written(out, what="answers", setting="--out", made_from=facts) as file:
        found = _scores(model, _answered(model, data, max_tokens, on_progress), max_tokens, known, file)
        facts |= {"rows": len(found.record.answers), "rows_cut": found.num_cut}
        if found.drift is not None:
            facts["drift"] = [asdict(one) | {"reading": one.reading} for one in found.drift.shifts]
    return found


def known_answers(model: ExportedModel, run_folder: Path) -> tuple[AnswerRecord, int]:
    """What the model answers for a run's validation samples, and the run's `sequence_tokens`.

    Its training samples would not do: a model is surer of texts that it has learnt from.

    Raises:
        RefusedInput: a run without labelled data of these classes, or whose data has changed.
    """
    folder = RunFolder(run_folder)
    job = folder.read_job()
    for name, data in data_sets(job).items():
        if not isinstance(data, LabelledConfig) or (data.names or data.labels) != model.names:
            continue
        with faults_of_data_set(name):
            for entry in folder.plan():
                if entry.data == name and entry.reads:
                    require_unchanged(data, entry, setting=data_path(name))
            valid = read_labelled(data, seed=job.seed).valid
        answered = model.answer(valid, max_tokens=data.sequence_tokens)
        return AnswerRecord.of(answered.answers, answered.num_tokens), data.sequence_tokens
    names = ", ".join(model.names[:8]) or "numbers"
    raise RefusedInput([Fault("--against", str(run_folder), f"a run over labelled data of this model's {names}")])


def _answered(
    model: ExportedModel, data: NewData, max_tokens: int, on_progress: Callable[[int], None]
) -> Iterator[tuple[list[str], Answered]]:
    """Yield names and answers of a block of rows at a time."""
    rows, done = data.rows(), 0
    while block := list(islice(rows, _BLOCK_ROWS)):
        names = [str(row.values["id"]) if "id" in data.columns else str(row.number) for row in block]
        with _faults_of_options():
            texts = [_text(row) for row in block]
            pairs = [row.text("pair", setting="TABLE") for row in block] if "pair" in data.columns else None
        yield names, model.answer(unlabelled(names, texts, pairs), max_tokens=max_tokens)
        done += len(block)
        on_progress(done)
    if not done:
        raise RefusedInput([Fault("TABLE", str(data.path), "a table with at least one row")])


def _text(row: TableRow) -> str:
    text = row.text("text", setting="TABLE")
    if not text.strip():
        allowed = "a text that is not blank; mend the row, or TABLE.skip_blank: true"
        raise bad_row(row.path, row.number, allowed, setting="TABLE")
    return text


def _scores(
    model: ExportedModel,
    blocks: Iterable[tuple[list[str], Answered]],
    max_tokens: int,
    known: AnswerRecord | None,
    file: BinaryIO | None,
) -> Scores:
    records = []
    if file is not None:
        file.write(_csv_lines([_header(model.names)]))
    for names, answered in blocks:
        records.append(AnswerRecord.of(answered.answers, answered.num_tokens))
        if file is not None:
            file.write(_csv_lines(_lines(model.names, names, answered, max_tokens)))
    confidences = [one.confidence for one in records if one.confidence is not None]
    whole = AnswerRecord(
        answers=np.concatenate([one.answers for one in records]),
        confidence=np.concatenate(confidences) if confidences else None,
        num_tokens=np.concatenate([one.num_tokens for one in records]),
    )
    found = drift(known, whole, model.names) if known is not None else None
    return Scores(whole, int((whole.num_tokens >= max_tokens).sum()), found)


def _header(names: tuple[str, ...]) -> list[str]:
    of_classes = [csv_cell(f"p({name})") for name in names] if len(names) <= _MOST_COLUMNS else []
    return ["id", "answer", *(["confidence"] if names else []), "tokens", "cut", *of_classes]


def _lines(classes: tuple[str, ...], names: list[str], answered: Answered, max_tokens: int) -> Iterator[list[str]]:
    for name, answer, num_tokens in zip(names, answered.answers, answered.num_tokens.tolist(), strict=True):
        length = [str(num_tokens), "yes" if num_tokens >= max_tokens else ""]
        if not classes:
            yield [csv_cell(name), f"{answer[0]:.7g}", *length]
            continue
        said = int(answer.argmax())
        every = [f"{one:.6f}" for one in answer] if len(classes) <= _MOST_COLUMNS else []
        yield [csv_cell(name), csv_cell(classes[said]), f"{answer[said]:.6f}", *length, *every]


def _csv_lines(rows: Iterable[list[str]]) -> bytes:
    made = io.StringIO()
    csv.writer(made).writerows(rows)
    return made.getvalue().encode()


@contextmanager
def _faults_of_options() -> Iterator[None]:
    """Name the options of the command in faults of the table, which are those of a setting `TABLE`."""
    try:
        yield
    except RefusedInput as refused:
        raise RefusedInput(
            replace(
                fault,
                path="TABLE",
                allowed=fault.allowed.replace("TABLE.skip_blank: true", "--skip-blank").replace("`TABLE.", "`--"),
            )
            for fault in refused.faults
        ) from None
