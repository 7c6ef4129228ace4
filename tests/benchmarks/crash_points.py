"""A save killed at every call that changes a file: what is left of the save before it, here and elsewhere.

python tests/benchmarks/crash_points.py [--only espalier] [--ranks 1] [--kib 8] [--demo] [--verbose]

Two states are saved whole; while a third is saved, one process gets SIGKILL before, after or (a write) half-way
through call k, for every k. A fresh process then resumes as that library documents.

    new, old   the state it loads is bit-equal to the third or the second
    refused    it raises or finds nothing, though whole states had been saved
    torn       it loads without an error, and what it loads is neither
    survived   new or old, and further saves work and load again
    left over  cuts after which files of the dead save are still there once the same step / a later one is saved

With two ranks the last is killed and the first ends a second later at the latest, as a launcher would have it. A kill
leaves the page cache alone: nothing here tells of power cuts. Needs gcc and Linux. Seconds grow with the load of the
machine; one system takes about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_processes import LIBRARY, MANNERS, Cut, in_processes
from crash_systems import (
    LATER,
    NEW,
    OLD,
    OLDER,
    REDONE,
    DeepSpeed,
    Espalier,
    Save,
    Size,
    System,
    make_state,
    missing,
    systems,
)

DEMO_VALUES, DEMO_TENSORS = 106_000_000, 64


@dataclass
class Row:
    """Counts over the cuts of one system."""

    system: str
    ranks: int
    num_cuts: int = 0
    found: Counter[str] = field(default_factory=Counter)
    survived: int = 0
    left_same: int = 0
    left_later: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        found = self.found
        return (
            f"{self.system:28}{self.ranks:5}{self.num_cuts:6}{self.survived:10}{found['new']:6}{found['old']:5}"
            f"{found['refused']:9}{found['torn']:6}{self.left_same:7} /{self.left_later:4}{self.seconds:9.0f}"
        )


HEAD = (
    f"{'system':28}{'ranks':>5}{'cuts':>6}{'survived':>10}{'new':>6}{'old':>5}{'refused':>9}{'torn':>6}"
    f"{'left over':>13}{'seconds':>9}"
)


class Explorer:
    """One system, cut everywhere."""

    def __init__(self, system: System, ranks: int, folder: Path, *, verbose: bool, large: bool) -> None:
        self._system = system
        self._ranks = ranks
        self._folder = folder
        self._verbose = verbose
        self._large = large
        self._row = Row(system.name, ranks)
        self._listings: dict[tuple[str, Save], set[str]] = {}
        self._digests: dict[Save, list[Any]] = {}

    def run(self) -> Row:
        start = time.monotonic()
        base = self._folder / "old"
        base.mkdir()
        for what in (OLDER, OLD):
            self._digests[what] = self._whole(base, what)
        last = self._ranks - 1
        trace = self._undisturbed(base, last)
        if self._verbose:
            print(f"  {self._system.name}, calls of rank {last}: {trace}", flush=True)
        for call, kind in enumerate(trace):
            for manner in MANNERS if kind == "w" else ("before", "after"):
                self._cut(base, Cut(last, call, manner), kind)
        self._row.seconds = time.monotonic() - start
        return self._row

    def _whole(self, root: Path, what: Save) -> list[Any]:
        outcome = in_processes(lambda: self._system.save(root, what), ranks=self._ranks, root=root)
        if outcome.faults:
            raise RuntimeError(f"{self._system.name} does not save: {outcome.faults[0]}")
        return outcome.values

    def _undisturbed(self, base: Path, one: int) -> str:
        """The calls of rank `one` in the save; what it and the next saves leave is remembered."""
        new = self._copy(base, "new")
        work = functools.partial(self._system.save, new, NEW)
        outcome = in_processes(work, ranks=self._ranks, cut=Cut(one), root=new)
        if outcome.faults:
            raise RuntimeError(f"{self._system.name} does not save: {outcome.faults[0]}")
        saved, trace = outcome.values[one]
        self._digests[NEW] = [saved if place == one else value for place, value in enumerate(outcome.values)]
        for state, root in (("old", base), ("new", new)):
            assert self._load(root) == state, f"{self._system.name}: undisturbed, `{state}` is not what it loads"
            for what in (REDONE, LATER) if state == "old" else (LATER,):
                again = self._copy(root, "again")
                self._digests[what] = self._whole(again, what)
                self._listings[state, what] = _listing(again)
        return trace

    def _cut(self, base: Path, cut: Cut, kind: str) -> None:
        root = self._copy(base, "cut")
        outcome = in_processes(lambda: self._system.save(root, NEW), ranks=self._ranks, cut=cut, root=root)
        assert outcome.killed, f"{self._system.name}: {cut} was not reached"
        self._row.num_cuts += 1
        found = self._load(root)
        self._row.found[found] += 1
        if found in ("old", "new"):
            self._go_on(root, found)
        if self._verbose:
            print(f"    {cut.rank}:{cut.call}{kind} {cut.manner:7}{found}", flush=True)

    def _load(self, root: Path) -> str:
        outcome = in_processes(lambda: self._system.load(root), ranks=self._ranks, root=root)
        if outcome.faults:
            self._row.faults[outcome.faults[0].replace(str(root), "")] += 1
            return "refused"
        return {tuple(self._digests[NEW]): "new", tuple(self._digests[OLD]): "old"}.get(tuple(outcome.values), "torn")

    def _go_on(self, root: Path, found: str) -> None:
        """Save again as the run that resumes would: the step that was lost, and one of a later number."""
        again = [REDONE] * (found == "old") + [LATER] * (found == "new" or not self._large)
        self._row.survived += all([self._saves_again(root, found, what) for what in again])

    def _saves_again(self, root: Path, found: str, what: Save) -> bool:
        again = self._copy(root, "again")
        saved = in_processes(lambda: self._system.save(again, what), ranks=self._ranks, root=again)
        loaded = in_processes(lambda: self._system.load(again), ranks=self._ranks, root=again)
        left = bool(_listing(again) - self._listings[found, what])
        self._row.left_same += left and what is REDONE
        self._row.left_later += left and what is LATER
        return not saved.faults and loaded.values == self._digests[what]

    def _copy(self, root: Path, name: str) -> Path:
        copy = self._folder / name
        shutil.rmtree(copy, ignore_errors=True)
        # Links suffice where no file is written over, and a large state is not copied again and again.
        return Path(shutil.copytree(root, copy, copy_function=os.link if self._large else shutil.copy))


def _listing(root: Path) -> set[str]:
    return {str(one.relative_to(root)) for one in root.rglob("*")}


def prepare(chosen: Sequence[System], size: Size, folder: Path | None) -> None:
    """Do once, before all forks, what every process would do: the states, and what each system imports on its way.

    A process is asked for the names; nothing runs in this one, which must stay without threads.
    """
    for seed in (0, OLDER.seed, OLD.seed, NEW.seed, LATER.seed):
        make_state(seed, size)
    for system in chosen:
        if isinstance(system, DeepSpeed):
            system.settle()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            work = functools.partial(_modules_of, system, Path(scratch))
            for name in in_processes(work, ranks=1, root=Path(scratch)).values[0] or ():
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


def _modules_of(system: System, root: Path) -> list[str]:
    system.save(root, OLD)
    system.load(root)
    return sorted(sys.modules)


def start_again() -> int:
    """Run this script once more with the library before libc's."""
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/stop_at_call.so"
        source = Path(__file__).with_suffix("").with_name("stop_at_call.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, str(source), "-ldl"], check=True)
        environment = {"OMP_NUM_THREADS": "1", "LD_PRELOAD": library, LIBRARY: library, "GLOO_SOCKET_IFNAME": "lo"}
        return subprocess.run([sys.executable, *sys.argv], env=os.environ | environment, check=False).returncode


def main() -> None:
    """Print a line for each system and number of ranks; below it why loads were refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="systems whose name has this in it")
    parser.add_argument("--ranks", type=int, choices=(1, 2), help="both when left out")
    parser.add_argument("--kib", type=int, default=8, help="of one tensor; there are 6 of them")
    parser.add_argument("--demo", action="store_true", help="espalier with a state of the demo's size")
    parser.add_argument("--folder", type=Path, help="where the saves go; a temporary folder when left out")
    parser.add_argument("--verbose", action="store_true", help="each cut on a line")
    arguments = parser.parse_args()
    if LIBRARY not in os.environ:
        sys.exit(start_again())
    size = Size(DEMO_TENSORS, DEMO_VALUES // DEMO_TENSORS) if arguments.demo else Size(2, arguments.kib * 256)
    chosen = [one for one in systems(size) if arguments.only.lower() in one.name.lower()]
    chosen = [one for one in chosen if isinstance(one, Espalier) or not arguments.demo]
    prepare([one for one in chosen if not missing(one)], size, arguments.folder)
    rows = []
    print(HEAD, flush=True)
    for ranks in (arguments.ranks,) if arguments.ranks else (1, 2):
        for system in chosen:
            if ranks > system.most_ranks:
                continue
            if needed := missing(system):
                print(f"{system.name:28}{ranks:5}  {needed} is not installed")
                continue
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                explorer = Explorer(system, ranks, Path(folder), verbose=arguments.verbose, large=arguments.demo)
                rows.append(explorer.run())
            print(rows[-1].text(), flush=True)
    for row in rows:
        for fault, times in row.faults.most_common(3):
            print(f"{row.system}, {row.ranks} rank(s), refused {times}x: {fault[:120]}")


if __name__ == "__main__":
    main()
