"""The table of suspect labels that a person edits, and the corrected copy of the training table that comes of it."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espalier.audit.judged_labels import JudgedLabels
from espalier.audit.written import require_replaceable, written
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.data.examples import class_of
from espalier.data.files import list_files, read_lines
from espalier.data.rows import Wanted, read_rows
from espalier.data.table_copy import Edits, copy_table
from espalier.storage.local import xxh3_of
from espalier.tracking.csv_cells import cell_text, csv_cell

_ENDINGS = {"csv": (".csv",), "tsv": (".tsv",), "json": (".json", ".jsonl", ".ndjson"), "parquet": (".parquet",)}
_MOST_FAULTS = 20
_MOST_NAMED = 12


@dataclass(frozen=True)
class Fixes:
    """What a person decided.

    Attributes:
        labels: sample -> its new label, as the label column has it; a number of a regression as it was written.
        dropped: samples to leave out.
        kept: number of samples whose label was looked at and stays.
        undecided: number of rows without a decision.
    """

    labels: dict[int, str]
    dropped: frozenset[int]
    kept: int
    undecided: int


def write_fixes(path: Path, judged: JudgedLabels, samples: Sequence[int]) -> None:
    """Write the suspects as a csv file whose column `decision` is empty: keep, drop or a label goes there.

    Raises:
        RefusedInput: a file is there that this command has not written, or that was changed since.
    """
    train, suspicion, has_pairs = judged.labelled.train, judged.suspicion, judged.labelled.train.pairs is not None
    made = io.StringIO()
    writer = csv.writer(made)
    pair = ["pair"] if has_pairs else []
    writer.writerow(["id", "text", *pair, "given", "suggested", "probability", "student", "why", "decision"])
    for sample in samples:
        texts = [train.texts[sample], *([train.pairs[sample]] if train.pairs else [])]
        words = [suspicion.given(sample), suspicion.suggested(sample), suspicion.probability(sample)]
        words += [judged.student[sample] or "", suspicion.why(sample)]
        writer.writerow([csv_cell(cell) for cell in (train.names[sample], *texts, *words)] + [""])
    facts = {"run": judged.job.name, "stage": judged.stage, "samples": train.key}
    with written(path, what="suspect labels", setting="--out", made_from=facts) as file:
        file.write(made.getvalue().encode())


def read_fixes(path: Path, judged: JudgedLabels) -> Fixes:
    """Read a table with the columns `id` and `decision`; others, but for `given`, are for people.

    Raises:
        RefusedInput: all faults of its rows: unknown ids, ids that stand twice, labels that are none.
    """
    train = judged.labelled.train
    rows = list(_rows(path))
    times = Counter(row["id"] for _, row in rows)
    samples = {name: sample for sample, name in enumerate(train.names)}
    samples |= {csv_cell(name): sample for sample, name in enumerate(train.names)}
    faults: list[Fault] = []
    decided: dict[int, str] = {}
    for number, row in rows:
        place, sample = f"{path}: row {number}", samples.get(row["id"])
        if sample is None:
            faults.append(Fault(f"{place}: id", row["id"], "the id of a training sample of this run"))
        elif times[row["id"]] > 1:
            given = f"{row['id']!r} stands in {times[row['id']]} rows"
            faults.append(Fault(f"{place}: id", row["id"], "each id once", given=given))
        elif row.get("given") and cell_text(row["given"]) != judged.suspicion.given(sample):
            allowed = f"{judged.suspicion.given(sample)}, the label that the run was trained on; the row is another's"
            faults.append(Fault(f"{place}: given", row["given"], allowed))
        else:
            try:
                decided[sample] = _decision(judged, sample, cell_text(row["decision"].strip()), place=place)
            except RefusedInput as refused:
                faults += refused.faults
    if faults:
        more = [
            Fault(str(path), None, "rows without a fault", given=f"has {len(faults) - _MOST_FAULTS} more such faults")
        ]
        raise RefusedInput(faults if len(faults) <= _MOST_FAULTS else [*faults[:_MOST_FAULTS], *more])
    return Fixes(
        labels={sample: word.removeprefix("label:") for sample, word in decided.items() if word.startswith("label:")},
        dropped=frozenset(sample for sample, word in decided.items() if word == "drop"),
        kept=sum(word == "keep" for word in decided.values()),
        undecided=sum(not word for word in decided.values()),
    )


def write_corrected(path: Path, judged: JudgedLabels, fixes: Fixes, *, fixes_file: Path) -> None:
    """Write a copy of the training table, in its own format, with the fixes.

    Raises:
        RefusedInput: the training table is not one file, or `path` is no place to write it.
    """
    table, setting = judged.data.train, f"{judged.setting}.train"
    if table.source == "hub":
        allowed = "a table in a file; save the data set as one, train on that, and its copy can be corrected"
        raise RefusedInput([Fault(f"{setting}.source", "hub", allowed)])
    files = list_files(table, setting=setting)
    if len(files) != 1:
        allowed = "one file, of which a corrected copy can be written; join them into one and train on that"
        raise RefusedInput([Fault(f"{setting}.files", None, allowed, given=f"names {len(files)} files")])
    wanted = _ENDINGS[table.source]
    if path.suffix in {one for ends in _ENDINGS.values() for one in ends} - set(wanted):
        allowed = f"a name that ends in {' or '.join(wanted)}, as the copy has the format of {files[0]}"
        raise RefusedInput([Fault("--out", str(path), allowed)])
    require_replaceable(path, setting="--out")
    facts = {"run": judged.job.name, "stage": judged.stage, "table": str(files[0]), "table_xxh3": xxh3_of(files[0])}
    facts |= {"fixes": str(fixes_file), "fixes_xxh3": xxh3_of(fixes_file)}
    counts = {"changed": len(fixes.labels), "dropped": len(fixes.dropped), "kept": fixes.kept}
    with written(path, what="corrected table", setting="--out", made_from=facts | counts) as target:
        copy_table(table, files[0], _edits(judged, fixes, setting=setting), target, setting=setting)


def _edits(judged: JudgedLabels, fixes: Fixes, *, setting: str) -> Edits:
    """The fixes by the names of rows, with labels as the file has such values: of the same type."""
    names, table = judged.labelled.train.names, judged.data.train
    if judged.suspicion.has_classes:
        rows = read_rows(table, Wanted(setting, {"label": table.label}, table.columns))
        as_written: dict[str, Any] = {class_of(row, setting=setting): row.values["label"] for row in rows}
        labels = {names[sample]: as_written[label] for sample, label in fixes.labels.items()}
    else:
        is_text = table.source in ("csv", "tsv")
        labels = {names[sample]: label if is_text else float(label) for sample, label in fixes.labels.items()}
    return Edits(labels, frozenset(names[sample] for sample in fixes.dropped))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row, column -> cell) of a csv file, with commas, semicolons or tabs as spreadsheets write it."""
    csv.field_size_limit(sys.maxsize)
    number = 1
    try:
        lines = list(read_lines(path, setting="--apply"))
        header = next(iter(lines), "")
        marks = {mark: header.count(mark) for mark in ",;\t"}
        reader = csv.reader(lines, delimiter=max(marks, key=lambda mark: marks[mark]), strict=True)
        columns = next(reader, [])
        if missing := [name for name in ("id", "decision") if columns.count(name) != 1]:
            allowed = f"a column `{missing[0]}`, once, as `espalier suspects RUN --out` writes it"
            raise RefusedInput([Fault(f"{path}: columns", ", ".join(columns), allowed)])
        for cells in reader:
            number = reader.line_num
            if any(cells) and len(cells) != len(columns):
                allowed = f"{len(columns)} fields as in the header, not {len(cells)}"
                raise RefusedInput([Fault(f"{path}: row {number}", ", ".join(cells), allowed)])
            if any(cells):
                yield number, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        allowed = f"well-formed csv ({error})"
        raise RefusedInput([Fault(f"{path}: row {number + 1}", None, allowed, given="cannot be read")]) from None
    except RefusedInput as refused:
        faults = (replace(one, path=one.path.replace("--apply.files", "--apply")) for one in refused.faults)
        raise RefusedInput(faults) from None


def _decision(judged: JudgedLabels, sample: int, text: str, *, place: str) -> str:
    """Empty, `keep`, `drop`, or `label:` and the label as the label column has it."""
    prefix, _, rest = text.partition(":")
    of_row, of_label = prefix.strip() == "row" and bool(rest), prefix.strip() == "label" and bool(rest)
    word = rest.strip() if of_row or of_label else text
    if not text:
        return ""
    if word.lower() in ("keep", "drop") and not of_label:
        if _class_named(judged, word) is not None and not of_row:
            allowed = f"`label: {word}` for the class of this name, or `row: {word.lower()}`"
            raise RefusedInput([Fault(f"{place}: decision", text, allowed)])
        return word.lower()
    label = _class_named(judged, word) if judged.suspicion.has_classes else _number(word)
    if label is None:
        raise RefusedInput([_no_label(judged, word, place=place)])
    return f"label:{label}" if label != _own_label(judged, sample) else "keep"


def _class_named(judged: JudgedLabels, word: str) -> str | None:
    """The class of this name, or of this value in the label column."""
    classes, names = judged.labelled.classes, judged.labelled.names
    if word in names:
        return classes[names.index(word)]
    return word if word in classes else None


def _number(word: str) -> str | None:
    try:
        return word if math.isfinite(float(word)) else None
    except ValueError:
        return None


def _own_label(judged: JudgedLabels, sample: int) -> str:
    target = judged.labelled.train.targets[sample]
    return judged.labelled.classes[int(target)] if judged.suspicion.has_classes else f"{float(target)!r}"


def _no_label(judged: JudgedLabels, word: str, *, place: str) -> Fault:
    names = judged.labelled.names
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    labels = f"one of the classes {', '.join(names[:_MOST_NAMED])}{more}" if names else "a finite number"
    return Fault(f"{place}: decision", word, f"keep, drop, {labels}, or nothing", nearest(word, names))
