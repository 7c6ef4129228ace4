"""The documents of a corpus as strings, always in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from espalier.config.data import CorpusConfig
from espalier.data.cutting import cut_text
from espalier.data.files import list_files, read_text
from espalier.data.rows import Wanted, is_blank, read_rows


def documents(corpus: CorpusConfig, *, setting: str = "data.train") -> Iterator[str]:
    """Yield every document of a corpus; blank ones are left out.

    A text file is one document, or as many as `cut` makes of it; a row of the other sources is one. Files come sorted
    by path.

    Args:
        corpus: where to read. All is read as a stream, so memory is bounded by the longest document.
        setting: the corpus's place in the job file, for messages.

    Raises:
        RefusedInput: missing or damaged files, rows that do not parse, that lack the text column or hold
            something other than text in it. Names file and row.
    """
    if corpus.source == "text":
        for path in list_files(corpus, setting=setting):
            text = read_text(path, setting=setting)
            yield from _filled([text] if corpus.cut is None else cut_text(text, corpus.cut))
        return
    for row in read_rows(corpus, Wanted(setting, {"text": corpus.text})):
        if not (corpus.skip_blank and is_blank(row.values["text"])):
            yield from _filled([row.text("text", setting=setting)])


def num_skipped(corpus: CorpusConfig, *, setting: str) -> int:
    """Count the empty files and the null or blank rows that `skip_blank` leaves out. Reads the whole corpus."""
    if corpus.source == "text":
        return sum(is_blank(read_text(path, setting=setting)) for path in list_files(corpus, setting=setting))
    paths, blank = set(list_files(corpus, setting=setting)), 0
    for row in read_rows(corpus, Wanted(setting, {"text": corpus.text})):
        paths.discard(row.path)
        blank += is_blank(row.values["text"])
    return blank + len(paths)


def _filled(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if not is_blank(text))
