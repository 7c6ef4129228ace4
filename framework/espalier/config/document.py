"""Read a job file: a small, safe subset of YAML, as plain values with their line numbers.

Scalars follow the YAML 1.2 core schema: `1e-4` is a number, `off` and dates are text. Tags are refused, so a file
cannot choose Python types; aliases are limited and may not nest, so a small file cannot expand to a large value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from espalier.config.faults import Fault, RefusedInput

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 32
MAX_ALIASES = 16

Keys = tuple[str | int, ...]
"""The path to a value: keys of mappings, positions in lists."""

_TAG = "tag:yaml.org,2002:"
_HALF = re.compile("[\ud800-\udfff]")  # a surrogate, which no UTF-8 can hold
_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"(?=[-+0-9_]{1,32}\Z)[-+]?[0-9]+(_[0-9]+)*",
    "float": r"(?=.{1,64}\Z)[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?",
    "merge": r"<<",
}
_RESOLVERS = {None: [(_TAG + name, re.compile(rf"(?:{form})\Z")) for name, form in _SCALARS.items()]}
"""Of any first character, as `yaml.resolver.BaseResolver` looks them up."""


@dataclass(frozen=True)
class Document:
    """Plain values and the line of each; None for values that are in no file."""

    values: Any
    lines: dict[Keys, int | None]


class _Unfit(Exception):
    def __init__(self, where: yaml.Event | yaml.Node, given: str, allowed: str) -> None:
        super().__init__(given)
        assert where.start_mark is not None  # the scanner marks all that it reads
        self.line, self.given, self.allowed = where.start_mark.line + 1, given, allowed


class _Loader(yaml.SafeLoader):
    yaml_constructors: ClassVar = {
        **yaml.SafeLoader.yaml_constructors,
        _TAG + "int": lambda _, node: int(node.value),  # YAML 1.1 reads 017 as octal and 1:30 as ninety
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.yaml_implicit_resolvers = _RESOLVERS
        self._depth = self._anchors_open = self._num_aliases = self._num_values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        anchored = self._check(event)
        self._depth += 1
        self._anchors_open += anchored
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1
            self._anchors_open -= anchored

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag not in (_TAG + "str", _TAG + "merge") or not key.value:
                raise _Unfit(key, "has a key that is not text", "names of settings; quote a word like true")
            if key.value in first:
                allowed = f"each setting once; the first stands on line {first[key.value]}"
                raise _Unfit(key, f"has {key.value[:64]!r} twice in one place", allowed)
            first[key.value] = key.start_mark.line + 1
        return node

    def _check(self, event: yaml.Event) -> bool:
        """Refuse nodes that could expand or construct objects; returns whether the node has an anchor."""
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            raise _Unfit(event, "holds too much", f"at most {MAX_VALUES:,} values")
        if self._depth >= MAX_DEPTH:
            raise _Unfit(event, "is nested too deeply", f"at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            self._num_aliases += 1
            if self._anchors_open:
                raise _Unfit(event, "has an alias inside an anchored value", "aliases of plain values")
            if self._num_aliases > MAX_ALIASES:
                raise _Unfit(event, "has too many aliases", f"at most {MAX_ALIASES}")
            return False
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent), "a node begins with no other event"
        if event.tag is not None and event.tag != "!":
            raise _Unfit(event, f"has the tag {event.tag[:64]!r}", "plain values without tags")
        if isinstance(event, yaml.ScalarEvent) and _HALF.search(event.value):
            raise _Unfit(event, "has half a character", "whole characters; write it itself, not as \\u")
        return event.anchor is not None


def read_document(path: Path) -> Document:
    """Read a job file: a YAML mapping in UTF-8, at most 1 MB.

    Raises:
        RefusedInput: not a readable file, too large, not UTF-8, not YAML of the kind above, not a mapping.
    """
    name = path.name or str(path)
    content = _content(path, name)
    if len(content) > MAX_BYTES:
        raise RefusedInput([_file_fault(name, "is too large", f"at most {MAX_BYTES:,} bytes")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RefusedInput([_file_fault(name, "is not UTF-8", "text saved in UTF-8")]) from None
    document = parse(text, origin=name)
    if document.values is None:
        raise RefusedInput([_file_fault(name, "is empty", "a job: name, storage, data, stages or a recipe")])
    if not isinstance(document.values, dict):
        raise RefusedInput([_file_fault(name, "is no mapping", "settings written as `name: value`")])
    return document


def _content(path: Path, name: str) -> bytes:
    if not path.is_file():  # a pipe or device would never end
        raise RefusedInput([_file_fault(name, "is no file", f"the path of a job file, not {str(path)!r}")])
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        allowed = f"a readable file: {error.strerror}"
        raise RefusedInput([_file_fault(name, "cannot be read", allowed)]) from None


def parse(text: str, *, origin: str) -> Document:
    """Read one YAML document. `origin` says in faults where the text comes from.

    Raises:
        RefusedInput: text that is not YAML, or a part of YAML that a job does not need.
    """
    if tab := re.search(r"^[ ]*\t", text, re.MULTILINE):
        line = text.count("\n", 0, tab.start()) + 1
        raise RefusedInput([_file_fault(origin, "is indented with a tab", "spaces", line)])
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None, {})
        values = loader.construct_document(node)
    except _Unfit as unfit:
        raise RefusedInput([_file_fault(origin, unfit.given, unfit.allowed, unfit.line)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        given = f"is not YAML, {error.problem or error.context}"
        raise RefusedInput([_file_fault(origin, given, "YAML", mark.line + 1 if mark else None)]) from None
    except yaml.YAMLError:  # errors of the reader have no position
        raise RefusedInput([_file_fault(origin, "has control characters", "printable text")]) from None
    return Document(values, dict(_lines(node, ())))


def _lines(node: yaml.Node, at: Keys) -> Iterator[tuple[Keys, int]]:
    if isinstance(node, yaml.MappingNode):  # merged keys come first, so that a mapping's own keys override them
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            yield from _lines(value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield (*at, position), value.start_mark.line + 1
            yield from _lines(value, (*at, position))


def _file_fault(name: str, given: str, allowed: str, line: int | None = None) -> Fault:
    return Fault(name, None, allowed, line=line, given=given)
