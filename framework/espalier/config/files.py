"""List the files that match a path or a glob."""

from __future__ import annotations

import glob
import os


def matching_files(pattern: str) -> list[str]:
    """The files that match a path or glob, sorted; an existing file named `a[1].txt` is not taken for a glob."""
    if os.path.isfile(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
