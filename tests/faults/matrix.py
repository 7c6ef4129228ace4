"""The fault matrix as one table: what was injected, what was expected, what was seen.

    python tests/faults/matrix.py [ROW ...]

The tests that rows name run in one pytest; scenes that need Ray share one local cluster; commands come last. Exits
with 1 when a row did not show what it says.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from faults.rows import ROWS, Row  # noqa: E402
from faults.scenes_ray import RayGround  # noqa: E402


@dataclass
class Seen:
    """What came of one row.

    Attributes:
        lines: what was seen, one thing each; what was wrong among them begins with `NOT`.
    """

    row: Row
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        if not self.lines:
            return "not done"
        return "no" if any(line.startswith("NOT") for line in self.lines) else "ok"

    def take(self, play: Callable[[], str]) -> None:
        """Play and note what was seen."""
        began = time.monotonic()
        try:
            self.lines.append(play())
        except Exception as error:  # the other rows are played all the same
            self.lines.append(f"NOT {type(error).__name__}: {str(error) or 'no message'}"[:400])
        self.seconds += time.monotonic() - began


def main() -> int:
    """Play the rows that are asked for, all without a name, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="P1, C4, ...; all when left out")
    names = parser.parse_args().rows
    if unknown := set(names) - {row.name for row in ROWS}:
        parser.error(f"no rows of the matrix: {', '.join(sorted(unknown))}")
    rows = [Seen(row) for row in ROWS if not names or row.name in names]
    with tempfile.TemporaryDirectory(prefix="espalier-matrix-") as folder:
        run_tests(rows, Path(folder, "tests.xml"))
        play_scenes(rows, Path(folder, "ray"))
        for number, (seen, play) in enumerate((one, play) for one in rows for play in one.row.plays):
            place = Path(folder, f"play-{number}")
            place.mkdir()
            seen.take(lambda play=play, place=place: play(place))
    print_table(rows)
    return any(seen.verdict == "no" for seen in rows)


def run_tests(rows: Sequence[Seen], report: Path) -> None:
    """All tests in one pytest, so that those of one file share what they set up."""
    wanted = sorted({test.split("::")[0] for seen in rows for test in seen.row.tests})
    if not wanted:
        return
    chosen = [node for node in _collect(wanted) if any(node.startswith(t) for seen in rows for t in seen.row.tests)]
    if not chosen:  # without a name pytest would run all there is
        raise RuntimeError(f"pytest finds none of the tests in {', '.join(wanted)}")
    _pytest(*chosen, f"--junitxml={report}")
    cases = {_node(case): case for case in ElementTree.parse(report).iter("testcase")}
    for seen in rows:
        for test in seen.row.tests:
            _note_tests(seen, test, [case for node, case in cases.items() if node.startswith(test)])


def play_scenes(rows: Iterable[Seen], folder: Path) -> None:
    """Those that need Ray, on one cluster; last those that hit Ray's own processes, which may keep its room."""
    scenes = [(seen, scene) for seen in rows for scene in seen.row.scenes]
    scenes.sort(key=lambda one: bool(one[1].kills))
    if not scenes:
        return
    folder.mkdir()
    with RayGround.open(folder) as ground:
        for seen, scene in scenes:
            seen.take(lambda scene=scene: ground.play(scene))
            print(f"{seen.row.name}: {seen.lines[-1]}", file=sys.stderr, flush=True)


def print_table(rows: Sequence[Seen]) -> None:
    """One line for each row, and one more for each further thing seen."""
    widths = (4, 58, 56)
    print(
        "".join(f"{word:<{width}}" for word, width in zip(("row", "injected", "expected"), widths, strict=True)), end=""
    )
    print(f"{'seconds':>8}  {'ok':<9}seen")
    for seen in rows:
        row = seen.row
        lines = [*seen.lines, *([f"left out: {row.left_out}"] if row.left_out else [])] or ["nothing"]
        print(f"{row.name:<4}{row.injected:<58}{row.expected:<56}{seen.seconds:>8.1f}  {seen.verdict:<9}{lines[0]}")
        for line in lines[1:]:
            print(f"{'':<{sum(widths) + 19}}{line}")
    counts = [sum(seen.verdict == verdict for seen in rows) for verdict in ("ok", "no", "not done")]
    print(f"{counts[0]} of {len(rows)} rows ok, {counts[1]} not, {counts[2]} not done")


def _collect(files: Sequence[str]) -> list[str]:
    # One -q prints names; the settings of this repository bring another, with which there are only counts.
    found = _pytest("-o", "addopts=", "--collect-only", *files, capture=True).stdout.splitlines()
    return [line for line in found if "::" in line]


def _pytest(*arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=capture)


def _node(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"


def _note_tests(seen: Seen, test: str, cases: Sequence[ElementTree.Element]) -> None:
    seen.seconds += sum(float(case.get("time", 0)) for case in cases)
    bad = [str(case.get("name")) for case in cases if len(case) and case[0].tag in ("failure", "error", "skipped")]
    name = test.removeprefix("tests/").split("/")[-1]
    if bad or not cases:
        seen.lines.append(f"NOT {name}: {', '.join(bad) or 'there is no such test'}")
    else:
        seen.lines.append(f"{len(cases)} passed: {name}")


if __name__ == "__main__":
    sys.exit(main())
