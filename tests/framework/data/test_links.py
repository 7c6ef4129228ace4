"""Links among the files of a corpus: whose links are followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from espalier.config.data import CorpusConfig
from espalier.config.faults import RefusedInput
from espalier.config.files import link_of_another
from espalier.data.files import list_files


def _corpus(path: Path) -> CorpusConfig:
    return CorpusConfig(source="text", files=(str(path),))


def _made_by_another(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the link to another user; where only root can, be another user than the link's instead."""
    if os.geteuid() == 0:
        os.lchown(link, 54321, 54321)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


def test_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words")
    (tmp_path / "link.txt").symlink_to("text.txt")
    assert list_files(_corpus(tmp_path / "link.txt"), setting="data.train") == [tmp_path / "link.txt"]


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_link_of_another_user_to_a_file_of_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The target belongs to root, who is not the link's owner either."""
    link = tmp_path / "shared"
    link.symlink_to("/etc/passwd" if place == "file" else "/etc")
    _made_by_another(link, monkeypatch)
    named = link if place == "file" else link / "passwd"
    with pytest.raises(RefusedInput, match=r"train\.files\[0\].*shared, a link that another user made") as refused:
        list_files(_corpus(named), setting="data.train")
    assert len(refused.value.faults) == 1


def test_links_of_another_user_to_files_of_that_user_are_as_good_as_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("words")
    (tmp_path / "link.txt").symlink_to("text.txt")
    if os.geteuid() == 0:
        os.chown(tmp_path / "text.txt", 54321, 54321)
    _made_by_another(tmp_path / "link.txt", monkeypatch)
    assert link_of_another(tmp_path / "link.txt") is None
