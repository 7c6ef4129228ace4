"""The files that a path or a glob means."""

from __future__ import annotations

import glob
import os


def matching_files(pattern: str) -> list[str]:
    """The files that a path or glob of a corpus means, sorted; a file really named `a[1].txt` is itself."""
    if os.path.isfile(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
