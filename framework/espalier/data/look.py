"""A first look at a job's text, before anything starts: can it be read, and is it text?"""

from __future__ import annotations

from espalier.config.data import CorpusConfig, DataConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.corpus import documents
from espalier.data.files import list_files, opened, refuse_no_text


def look(data: DataConfig) -> None:
    """Read the start of every file, and each side up to its first document.

    Raises:
        RefusedInput: files that are no text, a data set that cannot be reached, missing columns, no document at all;
            each as `documents` would say it later.
    """
    for setting, corpus in (("data.train", data.train), ("data.valid", data.valid)):
        if isinstance(corpus, CorpusConfig):
            _look(corpus, setting)


def _look(corpus: CorpusConfig, setting: str) -> None:
    if corpus.source in ("text", "json", "csv"):
        for path in list_files(corpus, setting=setting):
            with opened(path, setting=setting) as source:
                refuse_no_text(source, path, setting=setting)
    if next(iter(documents(corpus, setting=setting)), None) is None:
        raise RefusedInput([Fault(setting, None, "text; there is none but blanks", given="has no document")])
