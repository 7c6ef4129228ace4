"""Check a job's text before anything starts: can it be read, and is it text?"""

from __future__ import annotations

from espalier.config.data import CorpusConfig, DataConfig, HeldOutConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.corpus import documents
from espalier.data.files import list_files, opened, refuse_no_text
from espalier.data.split import split_documents


def look(data: DataConfig) -> None:
    """Read the first bytes of every file, and documents until each split has one.

    Raises:
        RefusedInput: files that are no text, a data set that cannot be reached, missing columns, no document at all, or
            none for one of the splits.
    """
    for setting, corpus in (("data.train", data.train), ("data.valid", data.valid)):
        if isinstance(corpus, CorpusConfig):
            _look(corpus, setting)
    if isinstance(data.valid, HeldOutConfig):
        split_documents(data, "valid")


def _look(corpus: CorpusConfig, setting: str) -> None:
    if corpus.source in ("text", "json", "csv"):
        for path in list_files(corpus, setting=setting):
            with opened(path, setting=setting) as source:
                refuse_no_text(source, path, setting=setting)
    if next(iter(documents(corpus, setting=setting)), None) is None:
        raise RefusedInput([Fault(setting, None, "text; there is none but blanks", given="has no document")])
