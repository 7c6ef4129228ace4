"""Loss and gradients of one step against one process, float32: every ZeRO level, 1 and 2 ranks, every split.

python tests/benchmarks/zero_invariance.py
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.invariance import Case, difference, join, save_models, steps_of
from support.spawn import run_ranks

LEVELS = ("none", "optimizer", "gradients", "parameters")
TEACHERS = (None, "none", "parameters")


def main() -> None:
    """Print the table; the last line is the largest difference of all."""
    with tempfile.TemporaryDirectory() as root:
        save_models(Path(root))
        references = {
            (tied, bool(teacher)): Case("none", 8, tied=tied, teacher=teacher)
            for tied in (True, False)
            for teacher in (None, "none")
        }
        found = dict(zip(references, join(run_ranks(steps_of, 1, root, list(references.values()))), strict=True))
        worst = 0.0
        print(f"{'zero_level':12}{'ranks':>6}{'split':>7}{'head':>8}{'teacher':>12}  relative difference")
        for ranks in (1, 2):
            cases = [
                Case(level, split, tied=tied, teacher=teacher)
                for level, split, tied, teacher in itertools.product(LEVELS, (1, 2, 4), (True, False), TEACHERS)
            ]
            for case, outcome in zip(cases, join(run_ranks(steps_of, ranks, root, cases, seconds=3000)), strict=True):
                value = difference(outcome, found[case.tied, bool(case.teacher)])
                worst = max(worst, value)
                split = f"{case.microbatch}x{8 // ranks // case.microbatch}"
                head, teacher = "tied" if case.tied else "untied", case.teacher or "-"
                print(f"{case.zero_level:12}{ranks:6}{split:>7}{head:>8}{teacher:>12}  {value:.1e}")
    print(f"largest: {worst:.1e}")


if __name__ == "__main__":
    main()
