"""`espalier doctor`: each judgement at both sides of its bounds, and a look at this machine that tells no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from espalier_cluster import doctor_looks
from espalier_cluster.doctor import doctor, is_bad
from espalier_cluster.doctor_checks import (
    CLASHES,
    Line,
    judge_clock,
    judge_cuda,
    judge_disk,
    judge_head,
    judge_memory,
    judge_open_files,
    judge_python,
    judge_shared_memory,
    judge_token,
    judge_versions,
    judge_wandb,
)

MIB = 2**20
disk = partial(judge_disk, place="/shared")
token = partial(judge_token, "/home/me/token", is_given=False, is_disabled=False)


@pytest.mark.parametrize(
    ("judged", "level", "told"),
    [
        (lambda: judge_python((3, 11)), "ok", "3.11"),
        (lambda: judge_python((3, 10)), "bad", "newer"),
        (lambda: judge_memory(4096 * MIB), "ok", "4.00 GiB"),
        (lambda: judge_memory(4095 * MIB), "warn", "end other programs"),
        (lambda: judge_memory(1023 * MIB), "bad", "end other programs"),
        (lambda: judge_shared_memory(1024 * MIB), "ok", "/dev/shm"),
        (lambda: judge_shared_memory(1023 * MIB), "warn", "--shm-size"),
        (lambda: judge_shared_memory(64 * MIB), "bad", "--shm-size"),
        (lambda: judge_open_files(4096, 4096), "ok", "4096"),
        (lambda: judge_open_files(-1, -1), "ok", "any number"),
        (lambda: judge_open_files(1024, 9000), "warn", "ulimit -n 9000"),
        (lambda: judge_open_files(256, -1), "bad", "ulimit -n 65536"),
        (lambda: disk(100e6, 2**40), "ok", "100 MB/s"),
        (lambda: disk(99e6, 2**40), "warn", "a save takes 121 s per billion parameters"),
        (lambda: disk(100e6, 2**30 - 1), "bad", "make room"),
        (lambda: disk(None, 2**40), "bad", "cannot be written to"),
        (lambda: judge_clock(0.0), "ok", "agrees"),
        (lambda: judge_clock(2.1), "warn", "2.1 s behind"),
        (lambda: judge_clock(-31.0), "bad", "31.0 s ahead of"),
        (lambda: judge_clock(None), "warn", "could not"),
        (lambda: token(0o100600), "ok", "for you alone"),
        (lambda: token(0o100640), "bad", "chmod 600 /home/me/token"),
        (lambda: token(None), "warn", "local runs need none"),
        (lambda: token(None, is_given=True), "ok", "RAY_AUTH_TOKEN"),
        (lambda: token(0o100600, is_disabled=True), "bad", "unset it"),
        (lambda: judge_wandb(in_environment=True, netrc_mode=None), "ok", "WANDB_API_KEY"),
        (lambda: judge_wandb(in_environment=False, netrc_mode=0o100600), "ok", "~/.netrc"),
        (lambda: judge_wandb(in_environment=True, netrc_mode=0o100644), "bad", "chmod 600"),
        (lambda: judge_wandb(in_environment=False, netrc_mode=None), "warn", "offline"),
        (lambda: judge_cuda(None, None, 0), "ok", "no NVIDIA driver"),
        (lambda: judge_cuda(None, "13.0", 0), "bad", "built without CUDA"),
        (lambda: judge_cuda("13.0", "12.8", 8), "bad", "a driver for CUDA 13.0"),
        (lambda: judge_cuda("13.0", "13.0", 0), "bad", "CUDA_VISIBLE_DEVICES"),
        (lambda: judge_cuda("13.0", "13.1", 8), "ok", "8 GPUs"),
        (lambda: judge_head("auto", "2.60.0", "2.60.0"), "ok", "2.60.0"),
        (lambda: judge_head("auto", "2.59.1", "2.60.0"), "bad", "one version on both sides"),
        (lambda: judge_head("auto", None, "2.60.0", refusal="nothing answers"), "bad", "nothing answers"),
    ],
)
def test_a_judgement(judged: Callable[[], Line], level: str, told: str) -> None:
    line = judged()
    assert line.level == level and told in f"{line.text}: {line.remedy}"
    assert bool(line.remedy) == (level != "ok"), "what is not well has a remedy"


def versions(**found: str) -> list[Line]:
    needs = ["ray[default]>=2.60,<2.61", "PyYAML>=6", "s3fs>=2025.9; extra == 's3'"]
    return list(judge_versions(found, needs))


def test_versions_are_held_to_what_is_declared() -> None:
    assert versions(ray="2.60.0", pyyaml="6.0") == [Line("ok", "packages", "ray 2.60.0, PyYAML 6.0")]
    old = next(iter(versions(ray="2.59.0", pyyaml="6.0")))
    assert (old.level, old.name, old.text) == ("bad", "ray", "2.59.0 is outside of <2.61,>=2.60")
    assert "pip install 'PyYAML>=6'" in [one.remedy for one in versions(ray="2.60.0")]


@pytest.mark.parametrize(("package", "bad", "why"), CLASHES)
def test_versions_known_to_clash_are_named_with_the_reason(package: str, bad: str, why: str) -> None:
    version = {"=": bad.lstrip("=<>"), "<": "0.1", ">": bad.lstrip("=<>")}[bad[0]]
    (line,) = judge_versions({package: version}, [f"{package}>=0"])
    assert line.level == "bad" and f"{version}: " in line.text


def test_a_probe_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_looks, "_PROBE_BYTES", MIB)
    probe = doctor_looks.probe_disk(tmp_path)
    assert probe is not None and probe.bytes_per_second > 0 and abs(probe.ahead_seconds) < 2
    assert list(tmp_path.iterdir()) == []
    assert doctor_looks.probe_disk(tmp_path / "away") is None


def test_a_clock_is_compared_with_the_moments_before_and_after_the_write() -> None:
    assert [doctor_looks._ahead(modified, 10.0, 11.0) for modified in (9.0, 10.5, 14.0)] == [-1.0, 0.0, 3.0]


def test_only_what_is_bad_fails() -> None:
    assert not is_bad([Line("ok", "a", "b"), Line("warn", "a", "b", "c")]) and is_bad([Line("bad", "a", "b", "c")])


def test_the_command_tells_no_secret_and_exits_with_1_when_something_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "token"
    secret.write_text("t" * 64)
    secret.chmod(0o644)
    monkeypatch.setattr(doctor_looks, "_PROBE_BYTES", MIB)
    for name, value in {"HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(secret), "WANDB_API_KEY": "w" * 40}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        doctor(storage=tmp_path, as_json=True)
    told = capsys.readouterr()
    lines = {one["name"]: one for one in json.loads(told.out)}
    assert ended.value.code == 1 and lines["token"]["level"] == "bad" and lines["wandb key"]["level"] == "ok"
    assert {"python", "packages", "memory", "open files", "storage", "clock", "cuda"} <= set(lines)
    assert "t" * 64 not in told.out + told.err and "w" * 40 not in told.out + told.err
