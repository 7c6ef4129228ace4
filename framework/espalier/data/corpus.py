"""The documents of a corpus, one string each, in an order that never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from espalier.config.data import CorpusConfig
from espalier.data.files import list_files, read_text
from espalier.data.rows import Wanted, read_rows


def documents(corpus: CorpusConfig, *, setting: str = "data.train") -> Iterator[str]:
    """Every document that holds text; rows that are empty or blank hold none and are left out.

    A text file is one document; a row of the other sources is one. Files come sorted by path.

    Args:
        corpus: where to read. All is read as a stream, so memory is bounded by the longest document.
        setting: the corpus's place in the job file, for messages.

    Raises:
        RefusedInput: missing or damaged files, rows that do not parse, that lack the text column or hold
            something other than text in it. Names file and row.
    """
    if corpus.source == "text":
        yield from _filled(read_text(path, setting=setting) for path in list_files(corpus, setting=setting))
        return
    rows = read_rows(corpus, Wanted(setting, {"text": corpus.text}))
    yield from _filled(row.text("text", setting=setting) for row in rows)


def _filled(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text and not text.isspace())
