"""Spoiled files given to every command: no traceback, no hang, nothing changed outside a run's folder.

    python tests/faults/fuzz.py [--cases 20000] [--runs 300] [--seed 1] [--only GROUP] [--folder FOLDER]

Two small jobs are run to their end. Then one file at a time is spoiled by hypothesis (a value of another kind, a key
too many, a bit, a file cut off, a link, a FIFO in its place): job files, each small file of a run, checkpoints, model
folders, tables of data, caches. The commands that read it are given, `validate`, `plan`, `report`, `compare` and
`checkpoint`, in one process; with `--runs`, `run --in-process`, too, on runs whose last stages are open. A case is
faulty when the command raises, ends with a code that it should not have, stands still for 10 s (a run for 60 s), dies,
prints what only a file outside holds, or changes anything but the run's own folder. A run may end with 1 where it says
which checkpoint is damaged and what to do. Exits with 1 when one is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults.preload import preload  # first: it sets what libraries read on import

# isort: split
from hypothesis import HealthCheck, Phase, given, seed, settings

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from faults.fuzzing.ground import Subject, make_ground, subjects, unfinish
from faults.fuzzing.mutations import SECRET, Mutation, mutations
from faults.fuzzing.play import play, tree
from faults.fuzzing.watched import Case, Journal, watched

_PATIENCE, _RUN_PATIENCE = 10.0, 60.0  # seconds
_MOST_SAMPLES = 2000  # that a spoiled job may train on; more would only take time


def main() -> int:
    """Spoil, play, and print the table; the exit code."""
    wanted = _arguments()
    folder = Path(wanted.folder or tempfile.mkdtemp(prefix="espalier-fuzz-")).resolve()
    began = time.monotonic()
    preload()
    ground = folder / "ground"
    watched(lambda journal: make_ground(ground), folder / "journal", patience_seconds=600)
    cases: list[Case] = []
    for runs, count in ((False, wanted.cases), (True, wanted.runs)):
        if runs:
            unfinish(ground)
        whole = folder / ("unfinished" if runs else "whole")
        shutil.copytree(ground, whole, symlinks=True)
        chosen = [one for one in subjects(ground) if wanted.only in ("", one.group)]
        commands = [(one, command) for one in chosen for command in (_runs(one) if runs else one.commands)]
        for number, (subject, command) in enumerate(commands):
            share = count // len(commands) + (number < count % len(commands))
            part = _Part(folder, whole, subject, command, is_run=runs)
            cases += part.play(share, seed=wanted.seed * 10_000 + number)
            if number % 20 == 19:
                print(f"{len(cases)} cases, {sum(bool(one.fault) for one in cases)} faulty", file=sys.stderr)
    print(_table(cases))
    print(f"{time.monotonic() - began:.0f} s; folder {folder}")
    return 1 if any(one.fault for one in cases) else 0


def _runs(subject: Subject) -> tuple[tuple[str, ...], ...]:
    jobs = {
        name for command in subject.commands for name in ("text", "labels") if any(name in part for part in command)
    }
    return tuple(("run", f"{job}.yaml", "--in-process") for job in sorted(jobs))


class _Part:
    """One file under one command, spoiled again and again."""

    def __init__(self, folder: Path, whole: Path, subject: Subject, command: tuple[str, ...], *, is_run: bool) -> None:
        self.folder, self.ground, self.whole = folder, folder / "ground", whole
        self.subject, self.command, self.is_run = subject, command, is_run
        self.good = (whole / subject.file).read_bytes()

    def play(self, count: int, *, seed: int) -> list[Case]:
        """So many cases; a process that one of them ends is followed by another."""
        done: list[Case] = []
        while len(done) < count:
            self._restore()
            work = partial(self._work, count - len(done), seed + 1000 * len(done))
            made = watched(work, self.folder / "journal", patience_seconds=_RUN_PATIENCE if self.is_run else _PATIENCE)
            if not made:  # hypothesis has nothing more to try
                break
            done += made
        self._restore()
        return done

    def _work(self, count: int, number: int, journal: Journal) -> None:
        os.chdir(self.ground)
        outside = self.ground / "canary" / ("own.txt" if self.subject.group == "data" else "secret.txt")
        before = tree(self.ground)

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(mutations(self.good, self.subject.kind, outside=outside))
        def each(mutation: Mutation) -> None:
            case = partial(Case, self.subject.group, " ".join(self.command), self.subject.file, mutation.name)
            mutation.apply(Path(self.subject.file))
            if self.is_run and not self._is_small():
                self._mend()
                return
            journal.begin(case(""))
            outcome = play(self.command)
            fault = outcome.fault or self._changed(before)
            journal.end(case(fault, outcome.text[-2000:] if fault else ""))
            if self.is_run or "changed" in fault:
                self._restore()
            else:
                self._mend()

        each()

    def _is_small(self) -> bool:
        """Whether what the job asks for by now is done in seconds."""
        try:
            prepared = prepare(read_job(Path(self.command[1])))
        except (RefusedInput, OSError):
            return True
        except Exception:  # the case will show it
            return True
        return prepared.job.seeds <= 2 and sum(one.samples or 0 for one in prepared.previews) <= _MOST_SAMPLES

    def _changed(self, before: dict[str, tuple[int, int, int]]) -> str:
        """What is not as it was, and should be."""
        after = tree(Path("."))
        differing = [path for path in {*before, *after} if before.get(path) != after.get(path)]
        own = ("runs/",) if self.is_run else tuple(f"{path}/report.html" for path in ("runs/text", "runs/labels"))
        strange = sorted(path for path in differing if path != self.subject.file and not path.startswith(own))
        if strange:
            return f"changed {strange[0]}"
        if self.is_run and self.subject.group != "data":
            for path in Path("runs").rglob("*"):
                if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
                    return f"changed: {SECRET} in {path.name}"
        return ""

    def _mend(self) -> None:
        """Put the one file back as it was."""
        path, right = self.ground / self.subject.file, self.whole / self.subject.file
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        shutil.copy2(right, path)

    def _restore(self) -> None:
        """Put everything back as it was, in the same folder."""
        for path in self.ground.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.whole, self.ground, symlinks=True, dirs_exist_ok=True)


def _table(cases: list[Case]) -> str:
    counts = Counter((one.group, one.command.split()[0]) for one in cases)
    faulty = Counter((one.group, one.command.split()[0]) for one in cases if one.fault)
    lines = [f"{'what is spoiled':<24}{'command':<14}{'cases':>8}{'faulty':>8}"]
    lines += [f"{group:<24}{command:<14}{n:>8}{faulty[group, command]:>8}" for (group, command), n in counts.items()]
    lines += [f"{'all':<38}{len(cases):>8}{sum(faulty.values()):>8}", ""]
    kinds: dict[str, list[Case]] = defaultdict(list)
    for one in cases:
        if one.fault:
            kinds[one.fault].append(one)
    for fault, alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        first = min(alike, key=lambda one: len(one.mutation))
        lines += [f"{len(alike):>5}  {fault}", f"       {first.command}: {first.file}: {first.mutation:.160}"]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one group of files")
    parser.add_argument("--folder")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
