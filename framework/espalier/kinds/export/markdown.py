"""Escape text from outside for a Markdown page."""

from __future__ import annotations

import re

from espalier.tracking.number_format import plain_text

_HARMLESS = re.compile(r"[\w./ :+,@%()-]+", re.ASCII)
_NAME = re.compile(r"(?!www)[a-z0-9][a-z0-9._-]*")  # of a stage
_ACTIVE = re.compile(r"[!-,.:-@[-`{-~]")  # may be markup, HTML, the end of a cell or the beginning of a link


def as_text(text: str) -> str:
    """One line of plain text, with markup characters as character references."""
    if _NAME.fullmatch(text):
        return text
    return _ACTIVE.sub(lambda letter: f"&#{ord(letter[0])};", plain_text(text))


def as_code(text: str) -> str:
    """The text as inline code; as plain text where backticks or table cells could break it."""
    return f"`{text}`" if _HARMLESS.fullmatch(text) else f"<code>{as_text(text)}</code>"
