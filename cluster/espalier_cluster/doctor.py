"""The command `espalier doctor`: look at this machine and say what would make a run fail or slow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from espalier.stages.controller import ExitCode
from espalier_cluster.doctor_checks import Line
from espalier_cluster.named_run import STORAGE
from espalier_cluster.terminal import open_terminal, say

_STYLES = {"ok": None, "warn": "yellow", "bad": "red"}


def doctor(
    storage: Annotated[
        Path | None, typer.Option(help="Where runs are kept; left out: $ESPALIER_STORAGE, or the current folder.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Compare versions with this cluster's head, too.")] = None,
    insecure: Annotated[bool, typer.Option(help="Ask a cluster that no token protects.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Look at this machine: versions, GPUs, disk, clock, memory, limits, keys. Exit code 1 when something is bad.

    Example: espalier doctor --storage /shared/runs --address auto
    """
    from espalier_cluster.doctor_looks import look

    place = (storage or Path(os.environ.get(STORAGE) or ".")).absolute()
    lines = []
    console = open_terminal()
    for line in look(place, address, insecure=insecure):
        lines.append(line)
        if not as_json:
            _show(console, line)
    if as_json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
    if is_bad(lines):
        raise SystemExit(ExitCode.ERROR)


def is_bad(lines: Sequence[Line]) -> bool:
    """Whether a run would fail, or be open to others."""
    return any(line.level == "bad" for line in lines)


def _show(console: Console, line: Line) -> None:
    rest = f": {line.remedy}" if line.remedy else ""
    say(console, f"{line.level:5}{line.name:15}{line.text}{rest}", style=_STYLES[line.level])
