"""A whole run, ended at any of its calls to the storage: the same command goes on and comes to the same.

    python tests/faults/every_call.py [--growing] [--calls 40] [--seed 1] [--folder FOLDER]

Driver and worker are one process here, so every file that a run leaves, its records and results as well as its
checkpoints, is written through calls that can be numbered. At one of them the process dies: before its effect, after
it, with half of it done (of a write and a removal), or by a power cut, which also takes what was appended and renamed
and not synced. Without `--calls` every call is tried, each in one of these ways in turn, by the seed. The run loads,
prunes, distills, evaluates and exports; with `--growing` it samples depths, grows twice and prunes, and so ends in each
stage and between each two of those.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.storage.contract import UNFINISHED
from espalier.storage.local import LocalStorage
from espalier.tracking import events
from espalier_cluster.drive import HowToRun, drive
from faults.outcome import differences, outcome
from support.growing import growing_stages
from support.tiny import tiny_job, write_model, write_text

Stages = list[dict[str, Any]]
How = Literal["before", "after", "torn", "power"]
CALLS = ("write_bytes", "append", "rename", "remove", "make_folder", "sync_folder", "sync_file")
_KILLED = 137


def main() -> None:
    """Print a table: calls by kind, how often the run was ended there, and how often it came to the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--growing", action="store_true")
    parser.add_argument("--calls", type=int, help="drawn by the seed; all when left out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        faults = try_calls(Path(folder), growing=asked.growing, num_calls=asked.calls, seed=asked.seed, tell=print)
    raise SystemExit(1 if faults else 0)


def try_calls(
    folder: Path, *, num_calls: int | None, seed: int, tell: Callable[[str], Any], growing: bool = False
) -> list[str]:
    """What was not as in the undisturbed run, a line each."""
    torch.set_num_threads(1)
    write_model(folder / "model")
    write_text(folder / "text")
    stages = growing_stages(folder) if growing else _stages(folder)
    calls = _undisturbed(folder, stages)
    expected = outcome(folder / "calm" / "tiny")
    draw = random.Random(seed)
    chosen = range(len(calls)) if num_calls is None else sorted(draw.sample(range(len(calls)), num_calls))
    tried: Counter[tuple[str, str]] = Counter()
    equal: Counter[tuple[str, str]] = Counter()
    faults = []
    for number in track(chosen, "runs ended", transient=True):
        how = get_args(How)[(number + seed) % len(get_args(How))]
        cell = (calls[number], how)
        found = _disturbed(folder, stages, number, how, expected)
        tried[cell] += 1
        equal[cell] += not found
        faults += [f"call {number}, {calls[number]}, {how}: {one}" for one in found[:3]]
    tell(f"{len(calls)} calls in an undisturbed run; ended at {len(chosen)}, equal {equal.total()}")
    tell(f"{'':<14}" + "".join(f"{how:>10}" for how in get_args(How)))
    for kind in CALLS:
        cells = [f"{equal[kind, how]}/{tried[kind, how]}" for how in get_args(How)]
        tell(f"{kind:<14}" + "".join(f"{cell:>10}" for cell in cells))
    for fault in faults:
        tell(fault)
    return faults


def _stages(folder: Path) -> Stages:
    stages = tiny_job(folder)["stages"]
    stages[2]["checkpoint"]["keep_latest"] = 1
    stages[3]["prompts"] = []  # writing samples takes longer than all the rest
    return stages


def _undisturbed(folder: Path, stages: Stages) -> list[str]:
    """The calls of a run, in order."""
    seen = folder / "calls.json"
    code = _in_child(_go, folder, stages, "calm", lambda calls: seen.write_text(json.dumps(calls)))
    assert code == 0, f"an undisturbed run ended with {code}"
    return json.loads(seen.read_text())


def _disturbed(folder: Path, stages: Stages, number: int, how: How, expected: dict[str, Any]) -> list[str]:
    name = f"rough-{number}"
    if (code := _in_child(_go, folder, stages, name, None, number, how)) != _KILLED:
        return [f"ended with {code} instead of being killed"]
    if (code := _in_child(_go, folder, stages, name, None)) != 0:
        return [f"the second start ended with {code}"]
    run = folder / name / "tiny"
    left = [str(path.relative_to(run)) for path in run.rglob(f"*{UNFINISHED}*")]
    found = [*differences(expected, outcome(run)), *(f"left behind: {path}" for path in left)]
    shutil.rmtree(folder / name)
    return found


def _in_child(work: Callable[..., None], *given: object) -> int:
    child = multiprocessing.get_context("fork").Process(target=work, args=given)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def _go(
    folder: Path,
    stages: Stages,
    name: str,
    tell: Callable[[list[str]], object] | None,
    stop_at: int = -1,
    how: How = "before",
) -> None:
    """Start the run, or go on with it, as `espalier run --in-process` does."""
    job = tiny_job(folder, storage=str(folder / name), stages=stages)
    for stage in stages:  # the same calls in the same order every time
        if "checkpoint" in stage:
            stage["checkpoint"]["in_background"] = False
    events._ACTIVITY_SECONDS = 0.0
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(job))
    calls = _number_calls(stop_at, how)
    with open(os.devnull, "w") as nowhere:
        code = drive(prepare(read_job(folder / f"{name}.yaml")), HowToRun(in_process=True), Console(file=nowhere))
    if tell:
        tell(calls)
    os._exit(code)


def _number_calls(stop_at: int, how: How) -> list[str]:
    """From here on every call that changes something is counted, and one of them is this process's last."""
    calls: list[str] = []
    disk = _Disk()
    one_by_one = threading.RLock()
    for kind in CALLS:
        plain = getattr(LocalStorage, kind)

        def call(self: LocalStorage, path: str, *given: Any, kind: str = kind, plain: Any = plain, **more: Any) -> None:
            with one_by_one:
                number = len(calls)
                calls.append(kind)
                if number == stop_at and how == "torn":
                    _do_half(self.root / path, kind, given)
                if number == stop_at and how == "power":
                    disk.forget()
                if number == stop_at and how != "after":
                    os._exit(_KILLED)
                disk.before(kind, self.root / path, given)
                plain(self, path, *given, **more)
                disk.after(kind, self.root / path)
                if number == stop_at:
                    os._exit(_KILLED)

        setattr(LocalStorage, kind, call)
    return calls


def _do_half(path: Path, kind: str, given: tuple[Any, ...]) -> None:
    if kind in ("write_bytes", "append"):
        content = b"".join(given)
        with path.open("wb" if kind == "write_bytes" else "ab") as file:
            file.write(content[: len(content) // 2])
    if kind == "remove" and path.is_dir():
        for one in sorted(path.rglob("*"))[::2]:
            if one.is_file():
                one.unlink()


class _Disk:
    """What a power cut takes: what was appended to a file since it was synced, and renames that their folder, which is
    synced after them, does not show yet. Everything else is durable when its call returns."""

    def __init__(self) -> None:
        self._synced: dict[Path, int] = {}
        self._renames: list[tuple[Path, Path, bytes | None]] = []

    def before(self, kind: str, path: Path, given: tuple[Any, ...]) -> None:
        if kind == "append":
            self._synced.setdefault(path, path.stat().st_size if path.exists() else 0)
        if kind == "rename":
            target = path.parent / Path(given[0]).name
            self._renames.append((path, target, target.read_bytes() if target.is_file() else None))

    def after(self, kind: str, path: Path) -> None:
        if kind == "sync_file":
            self._synced[path] = path.stat().st_size
        if kind == "sync_folder":
            self._renames = [one for one in self._renames if one[1].parent != path.resolve()]

    def forget(self) -> None:
        for old, new, content in reversed(self._renames):
            if new.exists():
                new.rename(old)
                if content is not None:
                    new.write_bytes(content)
        for path, num_bytes in self._synced.items():
            if path.exists():
                os.truncate(path, min(num_bytes, path.stat().st_size))


if __name__ == "__main__":
    main()
