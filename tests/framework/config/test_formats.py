"""Data formats by name: which one a section has, names that are not installed, declarations that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.config.data import DataConfig
from espalier.config.faults import RefusedInput
from espalier.config.format import DataFormat, ShownData
from espalier.config.formats import FORMATS, format_of, name_of, shown_data
from espalier.config.labelled import LabelledConfig
from espalier.jobs.kind import KINDS
from espalier.jobs.load import read_job
from support.installed import install, site_packages

CHAT = """\
from typing import Literal
from espalier.config.data import CorpusConfig
from espalier.config.format import DataFormat, DataSettings

class ChatConfig(DataSettings):
    format: Literal["chat"]
    train: CorpusConfig
    valid: CorpusConfig
    sequence_tokens: int = 8

CHAT = DataFormat("chat", ChatConfig, look="no:where", sequences="no:where", stands_for=("text",))
"""


def test_a_section_tells_its_format_by_name_or_by_the_older_key() -> None:
    assert [name_of(section) for section in ({}, {"task": "x"}, {"format": "chat", "task": "x"})] == [
        "text",
        "labelled",
        "chat",
    ]
    table = {"train": {"source": "csv", "files": ["/a"]}, "valid": {"fraction": 0.1}}
    assert format_of(DataConfig.model_validate(table)).name == "text"
    assert format_of(LabelledConfig.model_validate({"task": "regression", **table})).name == "labelled"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("chart", "allowed: leave it out: data with `task` is labelled, other data is text."),
        ("text", "allowed: leave it out: data with `task` is labelled, other data is text."),
        ("[1]", "allowed: leave it out: data with `task` is labelled, other data is text."),
    ],
)
def test_an_unknown_format_is_refused(job_file: Path, given: str, sentence: str) -> None:
    with pytest.raises(RefusedInput) as refused:
        read_job(job_file, [f"data.format={given}"])
    (fault,) = refused.value.faults
    assert fault.path == "data.format" and fault.line is None and str(fault).endswith(sentence)


def test_an_unknown_format_names_those_that_are_installed(job_file: Path, tmp_path: Path) -> None:
    with site_packages(tmp_path / "site", FORMATS) as site:
        install(site, "own_chat", {"chat": "own_chat:CHAT"}, CHAT, group="espalier.formats")
        install(site, "own_bad", {"bad": "own_bad:BAD"}, "import nothing_of_this", group="espalier.formats")
        FORMATS.__dict__.pop("_found", None)
        assert list(FORMATS) == ["text", "labelled", "chat"], "one that is broken harms no other"
        with pytest.raises(RefusedInput) as refused:
            read_job(job_file, ["data.format=chatt"])
        assert "one of chat, or leave it out" in str(refused.value) and "mean `chat`" in str(refused.value)
        with pytest.raises(RefusedInput, match="own_bad:BAD of package own_bad cannot be used: ModuleNotFoundError"):
            read_job(job_file, ["data.format=bad"])


def test_a_format_can_stand_for_another_in_every_kind_of_stage(tmp_path: Path) -> None:
    with site_packages(tmp_path / "site", FORMATS) as site:
        install(site, "other_chat", {"chat": "other_chat:CHAT"}, CHAT, group="espalier.formats")
        FORMATS.__dict__.pop("_found", None)
        chat, text, labelled = FORMATS["chat"], FORMATS["text"], FORMATS["labelled"]
        assert all(kind.accepts(chat) == kind.accepts(text) for kind in KINDS.values())
        assert not KINDS["head"].accepts(chat) and KINDS["head"].accepts(labelled) and KINDS["load"].accepts(chat)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("    sequence_tokens: int = 8\n", "TypeError: the settings of format chat lack sequence_tokens"),
        ('    format: Literal["chat"]\n', "need a setting `format`, a literal 'chat'"),
    ],
)
def test_a_declaration_without_what_all_have_is_broken(tmp_path: Path, line: str, told: str) -> None:
    package = f"chat_without_{len(line)}"
    with site_packages(tmp_path / "site", FORMATS) as site:
        install(site, package, {"chat": f"{package}:CHAT"}, CHAT.replace(line, ""), group="espalier.formats")
        FORMATS.__dict__.pop("_found", None)
        assert "chat" not in FORMATS and told in FORMATS.broken["chat"]


def test_data_of_a_run_is_shown_by_its_format() -> None:
    assert shown_data({}) == ShownData() == shown_data({"format": "not_installed"})
    assert shown_data({"task": "classification", "labels": ["a"]}) == ShownData(
        "classes", "cross_entropy", "nats per sample", "accuracy", ("a",)
    )
    assert shown_data({"task": "regression", "metric": "mse"}) == ShownData(
        "values", "squared_error", "squared error", "mse"
    )


def test_targets_and_metric_are_those_of_the_task() -> None:
    table = {"train": {"source": "csv", "files": ["/a"]}, "valid": {"fraction": 0.1}}
    text = DataConfig.model_validate({**table, "special_tokens": "end"})
    assert (text.targets, text.watched, text.around_documents) == ("words", None, "end")
    for task, targets, watched in (("classification", "classes", "accuracy"), ("regression", "values", "pearson")):
        data = LabelledConfig.model_validate({"task": task, **table})
        assert (data.targets, data.watched, data.around_documents) == (targets, watched, None)


def test_every_part_of_a_built_in_format_is_there() -> None:
    for declared in FORMATS.values():
        assert isinstance(declared, DataFormat)
        for part in ("look", "sequences", "labelled", "fingerprint", "split_fingerprints", "documents"):
            assert getattr(declared, part) is None or callable(declared.call(part))
