"""`espalier score`: answers as stock transformers gives them, a file that says what it was made from, drift."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner, Result

from espalier.audit import scoring
from espalier.audit.written import record_of
from espalier.config.faults import RefusedInput
from espalier.storage.local import xxh3_of
from espalier_cluster.command import app
from framework.audit.tables import read_table, write_table
from support.labelled import BERT, labelled_job, write_labelled_job
from support.whole_run import run_here

TOKENS = 48
WORDS = ["the", "king", "and", "queen", "speaks", "of", "love", "hate", "night", "sword", "crown", "fair", "foul"]
EXPORT = Path("runs", "tiny", "exports", "out")


def exported(root: Path, model: dict[str, Any], *, pairs: bool = False, number: bool = False) -> Path:
    """A run that exports a model with a fresh head."""
    job = labelled_job(root)
    stages = [job["stages"][0], job["stages"][-1] | {"model": "parent"}]
    rows = [
        {"id": n, "text": f"{' '.join(WORDS[: 1 + n % 7])} {n}", "pair": WORDS[n % 9], "label": ["bad", "good"][n % 2]}
        for n in range(80)
    ]
    rows = [row | ({"label": n / 7} if number else {}) for n, row in enumerate(rows)]
    table = write_table(root / "train.json", "json", rows)
    train = {"source": "json", "files": [str(table)], **({"pair": "pair"} if pairs else {})}
    data = job["data"] | {"train": train, "labels": [] if number else ["bad", "good"]}
    data |= {"task": "regression" if number else "classification"}
    run_here(write_labelled_job(root, model=model, stages=stages, data=data))
    return root / EXPORT


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("encoder"), BERT, pairs=True)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("decoder"), {}, number=True)


def new_rows(count: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(1)
    texts = [" ".join(draw.choice(WORDS, size)) for size in draw.integers(1, 20, count)]
    return [{"id": f"=n{n}", "text": text, "pair": " ".join(draw.choice(WORDS, 3))} for n, text in enumerate(texts)]


@torch.no_grad()
def of_stock(export: Path, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
    """[N, K] probabilities, or [N, 1] values, each text alone."""
    model = AutoModelForSequenceClassification.from_pretrained(export, dtype=torch.float32).eval()
    tokenizer, found = AutoTokenizer.from_pretrained(export), []
    for place, text in enumerate(texts):
        asked = [text] if pairs is None else [text, pairs[place]]
        logits = model(**tokenizer(*asked, return_tensors="pt", truncation=True, max_length=TOKENS)).logits[0].double()
        found.append((logits.softmax(-1) if len(logits) > 1 else logits).numpy())
    return np.array(found)


def asked(*words: Any) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, words)])


def refusal(*words: Any) -> str:
    result = asked(*words)
    assert isinstance(result.exception, RefusedInput), result.output
    (fault,) = result.exception.faults
    return str(fault)


@pytest.mark.parametrize("source", ["csv", "json", "parquet"])
def test_answers_of_an_encoder_for_pairs_are_those_of_stock_code(
    encoder: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_BLOCK_ROWS", 13)
    rows = new_rows(40)
    table, out = write_table(tmp_path / f"new.{source}", source, rows), tmp_path / "answers.csv"
    done = asked(encoder, table, "--id", "id", "--out", out)
    assert done.exit_code == 0, done.output
    found = read_table(out, "csv")
    assert [row["id"] for row in found] == [f"'{row['id']}" for row in rows]
    expected = of_stock(encoder, [row["text"] for row in rows], [row["pair"] for row in rows])
    ours = np.array([[float(row["p(bad)"]), float(row["p(good)"])] for row in found])
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert [row["answer"] for row in found] == [["bad", "good"][one] for one in expected.argmax(1)]
    assert any(row["cut"] == "yes" for row in found) and any(row["cut"] == "" for row in found)


def test_values_of_a_decoder_are_those_of_stock_code(decoder: Path, tmp_path: Path) -> None:
    rows = new_rows(20)
    plain, out = write_table(tmp_path / "new.tsv", "tsv", rows), tmp_path / "answers.csv"
    table = tmp_path / "new.tsv.gz"
    table.write_bytes(gzip.compress(plain.read_bytes()))
    assert asked(decoder, table, "--out", out).exit_code == 0
    ours = np.array([[float(row["answer"])] for row in read_table(out, "csv")])
    np.testing.assert_allclose(ours, of_stock(decoder, [row["text"] for row in rows], None), atol=1e-5)


def test_the_record_beside_the_answers_says_what_they_were_made_from(encoder: Path, tmp_path: Path) -> None:
    table, out = write_table(tmp_path / "new.csv", "csv", new_rows(9)), tmp_path / "answers.csv"
    run = encoder.parents[1]
    assert asked(encoder, table, "--out", out, "--against", run).exit_code == 0
    record = record_of(out)
    assert record is not None and record.xxh3 == xxh3_of(out) and record.date and record.espalier
    facts = record.made_from
    assert facts["table_xxh3"] == xxh3_of(table) and facts["rows"] == 9 and facts["sequence_tokens"] == TOKENS
    assert [one["what"] for one in facts["drift"]] == ["answers", "confidence", "length"]
    again = tmp_path / "again"
    shutil.copytree(encoder, again)
    assert asked(again, table, "--out", out).exit_code == 0, "as it was written, it may be replaced"
    copied = record_of(out)
    assert copied is not None and copied.made_from["export_xxh3"] == facts["export_xxh3"]
    out.write_text(out.read_text() + "x")
    assert "which was changed since it was written" in refusal(encoder, table, "--out", out)


def test_longer_texts_are_a_drift_and_the_run_s_own_are_none(encoder: Path, tmp_path: Path) -> None:
    run, train = encoder.parents[1], encoder.parents[3] / "train.json"
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    same = asked(encoder, write_table(tmp_path / "same.json", "json", rows * 5), "--against", run)
    assert same.exit_code == 0 and "large" not in same.stdout and "drift of" in same.stdout
    longer = [row | {"text": " ".join([row["text"]] * 3)} for row in rows * 5]
    done = asked(encoder, write_table(tmp_path / "long.json", "json", longer), "--against", run)
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("length")]
    assert "large" in line or "too few" in line


def test_an_export_of_an_earlier_version_is_asked_for_its_length(encoder: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(encoder, tmp_path / "old"))
    config = json.loads((old / "config.json").read_text())
    del config["espalier_data"]
    (old / "config.json").write_text(json.dumps(config))
    table = write_table(tmp_path / "new.csv", "csv", new_rows(3))
    assert "`config.json` not as it was written" in refusal(old, table)
    mark = json.loads((old / "espalier-export.json").read_text())
    mark["files"]["config.json"] = {
        "num_bytes": (old / "config.json").stat().st_size,
        "xxh3": xxh3_of(old / "config.json"),
    }
    (old / "espalier-export.json").write_text(json.dumps(mark))
    assert "`--tokens` is missing; allowed: the sequence_tokens of its training" in refusal(old, table)
    assert asked(old, table, "--tokens", TOKENS).exit_code == 0
    assert asked(old, table, "--against", encoder.parents[1]).exit_code == 0


def test_what_cannot_be_scored_is_refused_in_a_sentence(encoder: Path, decoder: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "new.csv", "csv", new_rows(3))
    assert "holds no `espalier-export.json`" in refusal(tmp_path, table)
    assert refusal(tmp_path / "no", table).startswith("`EXPORT` is ")
    assert "`TABLE` is " in refusal(encoder, tmp_path / "new.txt")
    missing = refusal(encoder, table, "--text", "words")
    assert missing.startswith("`TABLE` names ") and "set `--text` to one of those there: id, text, pair" in missing
    blank = write_table(tmp_path / "blank.csv", "csv", [*new_rows(2), {"id": "z", "text": " ", "pair": "x"}])
    out = tmp_path / "answers.csv"
    assert "mend the row, or --skip-blank" in refusal(encoder, blank, "--out", out)
    assert not list(tmp_path.glob("answers.csv*"))
    assert asked(encoder, blank, "--skip-blank", "--out", out).exit_code == 0 and len(read_table(out, "csv")) == 2
    assert "with at least one row" in refusal(encoder, write_table(tmp_path / "none.json", "json", []))
    said = refusal(encoder, table, "--against", decoder.parents[1])
    assert said.endswith("allowed: a run over labelled data of this model's bad, good.")


def test_cells_are_safe_for_spreadsheets(encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    asked(encoder, write_table(tmp_path / "new.csv", "csv", new_rows(3)), "--id", "text", "--out", out)
    with out.open(newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "+", "@")]
