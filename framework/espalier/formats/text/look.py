"""Check a job's text before anything starts: can it be read, and is it text?"""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.data import CorpusConfig, DataConfig, HeldOutConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.corpus import documents, num_skipped
from espalier.data.files import list_files, opened, refuse_no_text
from espalier.data.found import FoundData
from espalier.data.split import split_documents


def look(data: DataConfig, *, seed: int, path: str) -> FoundData:
    """See `DataFormat.look`. The number of sequences is not known without tokenising.

    Raises:
        RefusedInput: what `check_text` refuses.
    """
    check_text(data)
    return FoundData(data, remarks=tuple(skipped_remarks(data, path=path)))


def check_text(data: DataConfig) -> None:
    """Read the first bytes of every file, and documents until each split has one.

    Raises:
        RefusedInput: files that are no text, a data set that cannot be reached, missing columns, no document at all, or
            none for one of the splits.
    """
    for setting, corpus in (("data.train", data.train), ("data.valid", data.valid)):
        if isinstance(corpus, CorpusConfig):
            _check(corpus, setting)
    if isinstance(data.valid, HeldOutConfig):
        split_documents(data, "valid")


def _check(corpus: CorpusConfig, setting: str) -> None:
    if corpus.source in ("text", "json", "csv"):
        for path in list_files(corpus, setting=setting):
            with opened(path, setting=setting) as source:
                refuse_no_text(source, path, setting=setting)
    if next(iter(documents(corpus, setting=setting)), None) is None:
        raise RefusedInput([Fault(setting, None, "text; there is none but blanks", given="has no document")])


def skipped_remarks(data: DataConfig, *, path: str = "data") -> Iterator[str]:
    """Sentences about what `skip_blank` leaves out of each corpus of files. Reads them to the end."""
    for setting, corpus in ((f"{path}.train", data.train), (f"{path}.valid", data.valid)):
        if isinstance(corpus, CorpusConfig) and corpus.skip_blank and corpus.source != "hub":
            yield f"{setting}: {num_skipped(corpus, setting=setting):,} empty files and rows without text are left out"
