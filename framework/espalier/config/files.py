"""List the files that match a path or a glob, and tell links that others have placed."""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path


def matching_files(pattern: str) -> list[str]:
    """The files that match a path or glob, sorted; an existing file named `a[1].txt` is not taken for a glob."""
    if os.path.isfile(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


def link_of_another(path: str | Path) -> Path | None:
    """The first link on the way to a file that another user made and that leads to what is not that user's own.

    Whoever can write to a shared folder can place such a link to a private file of whoever reads there. Links of root,
    of oneself, and of the owner of what they lead to are as good as the file.
    """
    whole = Path(os.path.abspath(path))
    for part in (*reversed(whole.parents), whole):
        link = os.lstat(part)
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid(), os.stat(part).st_uid):
            return part
    return None
