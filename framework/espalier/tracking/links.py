"""`links.json` in a run's folder: the addresses of the run's pages in trackers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

from pydantic import Field

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.storage.records import Versioned, read_record

FILE = "links.json"

_MAX_BYTES = 2**16
_REMEDY = "addresses of web pages as a run writes them; remove the file"
_Address = Annotated[str, Field(pattern=r"^https?://[!-~]{1,1000}$")]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class LinksFile(Versioned):
    """The content of the file.

    Attributes:
        run: the id that trackers know the run by; the pages of a run that began anew are not those of the one before.
        pages: tracker -> address.
    """

    run: Annotated[str, Field(max_length=64)]
    pages: Annotated[dict[_Name, _Address], Field(max_length=16)]


def read_links(folder: RunFolder) -> Mapping[str, str]:
    """Tracker -> address of the run's page; empty when none is known, or somebody has written something else there."""
    try:
        found = read_record(LinksFile, folder.path / FILE, what="list of pages", remedy=_REMEDY, max_bytes=_MAX_BYTES)
        return found.pages if found is not None and found.run == folder.ids().get("wandb_id") else {}
    except RefusedInput:
        return {}


def write_link(folder: RunFolder, run: str, tracker: str, address: str) -> None:
    """Remember a page; one that cannot be remembered, or is no address, is left out."""
    with suppress(OSError, ValueError):  # RefusedInput and pydantic's errors are ValueErrors
        links = LinksFile(run=run, pages={**read_links(folder), tracker: address})
        folder.files.replace(FILE, links.model_dump_json().encode())
