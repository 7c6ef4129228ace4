import shutil
from pathlib import Path

from espalier.config.data import DataConfig
from espalier.config.labelled import LabelledConfig
from espalier.data.fingerprint import fingerprint, fingerprint_of_text, text_fingerprint


def config(folder: Path, **changes: object) -> DataConfig:
    train = {"source": "text", "files": [str(folder / "*.txt")]}
    return DataConfig.model_validate({"train": train, "valid": {"fraction": 0.25}} | changes)


def corpus(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
    return folder


def test_the_fingerprint_depends_on_contents_not_paths(tmp_path: Path) -> None:
    here = corpus(tmp_path / "here", "abc", "def")
    there = shutil.copytree(here, tmp_path / "there")
    assert fingerprint_of_text(config(here)) == fingerprint_of_text(config(there))
    (there / "1.txt").write_text("deg")
    assert fingerprint_of_text(config(here)) != fingerprint_of_text(config(there))


def test_the_fingerprint_depends_on_every_setting(tmp_path: Path) -> None:
    here = corpus(tmp_path / "here", "abc", "def")
    files = {"source": "text", "files": [str(here / "0.txt")]}
    changed = [
        config(here),
        config(here, valid={"fraction": 0.5}),
        config(here, valid=files),
        config(here, sequence_tokens=11),
        config(here, layout="documents"),
        config(here, train=files),
        config(here, train={"source": "json", "files": [str(here / "*.txt")]}),
        config(here, train={"source": "hub", "dataset": "owner/name"}),
        config(here, train={"source": "hub", "dataset": "owner/name", "split": "test"}),
    ]
    assert len({fingerprint_of_text(data) for data in changed}) == len(changed)


def test_the_text_fingerprint_does_not_depend_on_sequence_length(tmp_path: Path) -> None:
    here = corpus(tmp_path / "here", "abc", "def")
    cut = config(here, sequence_tokens=11, layout="documents")
    assert text_fingerprint(config(here), "train") == text_fingerprint(cut, "train")
    assert text_fingerprint(cut, "train") != text_fingerprint(cut, "valid")


def test_the_training_text_fingerprint_depends_on_the_validation_corpus(tmp_path: Path) -> None:
    """Documents of the validation corpus are taken out of training."""
    here, other = corpus(tmp_path / "here", "abc"), corpus(tmp_path / "other", "def", "ghi")
    one, two = (config(here, valid={"source": "text", "files": [str(other / name)]}) for name in ("0.txt", "1.txt"))
    assert text_fingerprint(one, "train") != text_fingerprint(two, "train")


def test_without_a_rule_of_its_own_a_format_s_settings_and_files_count(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "train.csv").write_text("text,label\none,a\n")
    there = shutil.copytree(here, tmp_path / "there")

    def data(folder: Path, **changes: object) -> LabelledConfig:
        table = {"source": "csv", "files": [str(folder / "*.csv")]}
        settings = {"task": "classification", "train": table, "valid": {"fraction": 0.5}}
        return LabelledConfig.model_validate(settings | changes)

    assert fingerprint(data(here)) == fingerprint(data(there))
    (there / "train.csv").write_text("text,label\ntwo,a\n")
    table = {"source": "csv", "files": [str(here / "*.csv")], "label": "other"}
    changed = [
        *(data(here), data(there), data(here, valid={"fraction": 0.25}), data(here, valid=table)),
        *(data(here, train=table), data(here, sequence_tokens=11), data(here, task="regression")),
    ]
    assert len({fingerprint(one) for one in changed}) == len(changed)
