"""Print the checkpoints of a run as tables."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from espalier.checkpoint.manifest import Base, DamagedCheckpoint, Manifest, Origin
from espalier.checkpoint.manifest_file import load_manifest
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import Storage
from espalier.tracking.number_format import bytes_text, plain_lines, plain_text
from espalier_cluster.checkpoints import Checkpoint, Health, examine, states_of

_COLORS = {"whole": "green", "damaged": "bold red", "uncommitted": "yellow", "gone": "dim"}
_RIGHT = ("step", "workers", "size", "attempt", "tensors", "values")


def show_list(console: Console, found: Sequence[Checkpoint]) -> None:
    """Print a line for each checkpoint, from its manifest."""
    if not found:
        console.print("no checkpoints yet")
        return
    table = _table("stage", "step", "when", "workers", "zero_level", "size", "attempt", "state")
    for one in found:
        when, workers, level, attempt = _known(one.manifest.origin) if one.manifest else ("", "", "", "")
        _row(table, one.stage, str(one.step), when, workers, level, bytes_text(one.num_bytes), attempt, _standing(one))
    console.print(table)


def verify_all(console: Console, run_folder: Path, found: Sequence[Checkpoint]) -> bool:
    """Verify every file of every checkpoint and print the outcome for each.

    Returns:
        Whether none is damaged.
    """
    storage = states_of(run_folder)
    columns = (TextColumn("hashing"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=sum(one.num_bytes for one in found if one.manifest))
        known: dict[Base, tuple[str, ...]] = {}
        healths = [
            examine(storage, one, on_bytes=lambda count: progress.advance(task, count), known=known) for one in found
        ]
    for one, health in zip(found, healths, strict=True):
        line = Text(f"{plain_text(one.folder)}: ").append(health.state, style=_COLORS[health.state])
        console.print(line.append(_reasons(health)), soft_wrap=True)
    counts = Counter(health.state for health in healths)
    summary = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no checkpoints yet"
    console.print(summary)
    return not counts["damaged"]


def show_one(console: Console, folder: Path) -> None:
    """Print everything in a checkpoint's manifest, and the checkpoints that it was made from.

    Args:
        folder: `<run>/stages/<stage>/step-<number>`, wherever the run keeps its states.

    Raises:
        RefusedInput: the folder is no checkpoint, or its manifest is not as it was written.
    """
    folder = folder.resolve()
    run = [folder, *folder.parents][:4][-1]
    storage = states_of(run)
    try:
        manifest = load_manifest(storage, folder.relative_to(run).as_posix())
    except (DamagedCheckpoint, OSError) as error:
        reasons = "; ".join(error.reasons) if isinstance(error, DamagedCheckpoint) else str(error.strerror)
        allowed = f"a checkpoint, `<run>/stages/<stage>/step-<number>`; {reasons}"
        raise RefusedInput([Fault("checkpoint_folder", str(folder), allowed)]) from None
    console.print(_origin_table(manifest))
    console.print(_slot_table(manifest))
    console.print(_file_table(manifest))
    if manifest.published:
        number, place = len(manifest.published.tensors), manifest.published.folder
        _say(console, f"{number} parameters are in published files in {place}, which this state refers to")
    if manifest.bases:
        places = ", ".join(base.folder for base in manifest.bases)
        _say(console, f"{len(manifest.names_below)} parameters were not trained and are in {places}")
    for line in _lineage(storage, manifest):
        _say(console, line)
    _say(console, f"model: {json.dumps(manifest.origin.model, indent=2)}")
    _say(console, f"state: {json.dumps(manifest.state, indent=2)}")


def _known(origin: Origin) -> tuple[str, str, str, str]:
    try:
        when = datetime.fromtimestamp(origin.created_unix_seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # not a valid time
        when = str(origin.created_unix_seconds)
    return when, str(origin.world_size), origin.zero_level, str(origin.attempt)


def _standing(one: Checkpoint) -> str:
    state = "committed" if one.manifest else "damaged" if one.faults else "uncommitted"
    kept = ", kept as the stage's result" if one.is_result else ""
    return state + kept + (f": {'; '.join(one.faults)}" if one.faults else "")


def _reasons(health: Health) -> str:
    return f" ({plain_text('; '.join(health.reasons))})" if health.reasons else ""


def _origin_table(manifest: Manifest) -> Table:
    when, workers, level, attempt = _known(manifest.origin)
    table = _table("stage", "step", "when", "workers", "zero_level", "attempt", "tokenizer")
    origin = manifest.origin
    _row(table, origin.stage, str(origin.step), when, workers, level, attempt, origin.tokenizer or "")
    return table


def _slot_table(manifest: Manifest) -> Table:
    table = _table("slot", "tensors", "values", "dtype")
    for slot, records in manifest.tensors.items():
        values = sum(math.prod(manifest.shape(slot, name) or ()) for name in records)
        dtypes = Counter(record.dtype for record in records.values())
        _row(table, slot, f"{len(records):,}", f"{values:,}", ", ".join(f"{n} {dtype}" for dtype, n in dtypes.items()))
    return table


def _file_table(manifest: Manifest) -> Table:
    table = _table("file", "size", "xxh3")
    published = manifest.published
    outside = {} if published is None else {f"{published.folder}/{name}": one for name, one in published.files.items()}
    for name, record in {**manifest.files, **outside}.items():
        _row(table, name, bytes_text(record.num_bytes), record.xxh3)
    return table


def _lineage(storage: Storage, manifest: Manifest) -> Iterator[str]:
    """One line for each ancestor, as far as they are still there."""
    parent, seen = manifest.origin.parent, set[str]()
    while parent is not None and parent not in seen:
        seen.add(parent)
        try:
            origin = load_manifest(storage, parent).origin
        except (DamagedCheckpoint, RefusedInput, OSError):
            yield f"from {parent}, which is no longer there or cannot be used"
            return
        yield f"from {parent}: {_known(origin)[0]}, attempt {origin.attempt}"
        parent = origin.parent


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, justify="right" if header in _RIGHT else "left", overflow="fold")
    return table


def _row(table: Table, *cells: Any) -> None:
    """Add a row. Cells hold text from files, so markup and control characters have no effect."""
    table.add_row(*(Text(plain_text(cell)) for cell in cells))


def _say(console: Console, text: str) -> None:
    console.print(Text(plain_lines(text)), soft_wrap=True)
