"""What a job file may be as text, before any setting of it is looked at."""

# ruff: noqa: E501 - one case a line reads as a table

from __future__ import annotations

import time
from pathlib import Path

import pytest

from espalier.config.document import MAX_BYTES, parse
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1e3),
        (".5", 0.5),
        ("1_000", 1000),
        ("017", 17),
        ("off", "off"),
        ("no", "no"),
        ("true", True),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("9" * 5000, "9" * 5000),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    read = parse(text, origin="test").values
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_marks_and_line_ends_of_other_systems_do_not_matter(job_file: Path, mark: bytes, line_end: bytes) -> None:
    plain = read_job(job_file)
    job_file.write_bytes(mark + job_file.read_bytes().replace(b"\n", line_end))
    assert read_job(job_file) == plain


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "`job.yaml` is empty"),
        ("# nothing\n", "`job.yaml` is empty"),
        ("- a\n- b\n", "`job.yaml` is no mapping"),
        ("just words", "`job.yaml` is no mapping"),
        ("name: a\nworkers:\n\tcount: 1\n", "(line 3) is indented with a tab; allowed: spaces"),
        ("name: a\nseed: 1\nname: b\n", "(line 3) has 'name' twice in one place; allowed: each setting once; the first stands on line 1"),
        ("a: 1\nb: {c: 1, c: 2}\n", "(line 2) has 'c' twice"),
        ("name: [a\nseed: 1\n", "is not YAML"),
        ("name: a\n---\nname: b\n", "is not YAML, but found another document"),
        ("1: a\n", "(line 1) has a key that is not text"),
        ('"": a\n', "(line 1) has a key that is not text"),
        ("? [a]\n: b\n", "has a key that is not text"),
        ("a: !!python/object/apply:os.system [touch /tmp/never]\n", "has the tag 'tag:yaml.org,2002:python/object"),
        ("a: !custom 1\n", "has the tag '!custom'"),
        ("a: !!int 1\n", "has the tag"),
        ("[" * 1000, "is nested too deeply; allowed: at most 32 levels"),
        ("a: &a [*a]\n", "has an alias inside an anchored value"),
        ("a: *b\n", "is not YAML, found undefined alias"),
        ("a: &a x\nb: [" + "*a, " * 17 + "]\n", "has too many aliases; allowed: at most 16"),
        ("a: \0\n", "has control characters"),
        (b"name: caf\xe9\n", "is not UTF-8; allowed: text saved in UTF-8"),
        ("name: a\n".encode("utf-16"), "is not UTF-8"),
        ('a: "\\uD800"\n', "has half a character"),
        ("a: [" + "0," * 20_000 + "]\n", "holds too much; allowed: at most 20,000 values"),
        ("a: 1\n" * (MAX_BYTES // 5 + 1), "is too large; allowed: at most 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_text_that_is_no_job_is_refused_in_one_sentence(refuse, text: str | bytes, sentence: str) -> None:
    said = refuse(text)
    assert len(said) == 1
    assert sentence in said[0]


def test_aliases_that_double_are_refused_before_they_grow(refuse) -> None:
    levels = "\n".join(f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]" for i in range(1, 60))
    start = time.monotonic()
    assert "has an alias inside an anchored value" in refuse(f"l0: &l0 [x]\n{levels}\n")[0]
    assert time.monotonic() - start < 1.0


def test_a_merged_mapping_yields_to_what_stands_beside_it() -> None:
    document = parse("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n", origin="test")
    assert document.values["b"] == {"x": 1, "y": 3}
    assert document.lines["b", "y"] == 4


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(RefusedInput, match="is no file"):
            read_job(path)
