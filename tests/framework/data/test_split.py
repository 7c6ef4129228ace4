import json
from pathlib import Path

import pytest

from espalier.config.data import DataConfig
from espalier.config.faults import RefusedInput
from espalier.data.split import split_documents

MANY = [f"document {number % 1009}" for number in range(2003)]


def config(folder: Path, texts: list[str], valid: float | list[str]) -> DataConfig:
    def corpus(name: str, rows: list[str]) -> dict[str, object]:
        (folder / name).write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
        return {"source": "json", "files": [str(folder / name)]}

    held_out = {"fraction": valid} if isinstance(valid, float) else corpus("valid.jsonl", valid)
    return DataConfig.model_validate({"train": corpus("train.jsonl", texts), "valid": held_out})


def sides(data: DataConfig) -> tuple[list[str], list[str]]:
    return list(split_documents(data, "train")), list(split_documents(data, "valid"))


def test_every_document_is_on_one_side_and_equal_ones_on_the_same(tmp_path: Path) -> None:
    train, valid = sides(config(tmp_path, MANY, 0.1))
    assert sorted(train + valid) == sorted(MANY)
    assert not set(train) & set(valid)
    assert 0.07 < len(valid) / len(MANY) < 0.13


def test_the_split_of_a_document_depends_on_its_text_alone(tmp_path: Path) -> None:
    _, valid = sides(config(tmp_path, MANY, 0.1))
    _, again = sides(config(tmp_path, MANY[:503:-1], 0.1))
    assert set(again) <= set(valid)


@pytest.mark.parametrize("fraction", [1e-12, 0.5, 1 - 1e-12])
@pytest.mark.parametrize("count", [2, 3, 41])
def test_neither_side_is_empty(tmp_path: Path, fraction: float, count: int) -> None:
    texts = MANY[:count] * 2
    train, valid = sides(config(tmp_path, texts, fraction))
    assert train and valid and not set(train) & set(valid)
    assert sorted(train + valid) == sorted(texts)


@pytest.mark.parametrize("texts", [[], ["alone"], ["twin", "twin"]])
def test_a_single_document_cannot_be_split(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(RefusedInput, match=r"data\.valid\.fraction.*of its own in `data\.valid`"):
        sides(config(tmp_path, texts, 0.5))


def test_documents_of_the_validation_corpus_are_left_out_of_training(tmp_path: Path) -> None:
    train, valid = sides(config(tmp_path, ["a", "b", "c", "b"], ["b", "d"]))
    assert train == ["a", "c"] and valid == ["b", "d"]
