"""The runner without a cluster makes a group of one, with all that ZeRO asks for, and takes it away again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.kill import finish
from support.tiny import tiny_job, write_job

PROGRAM = """
import torch.distributed as dist
from espalier.stages.heartbeats import Control
from espalier.worker.in_process import InProcessRunner

first = InProcessRunner(Control())
second = InProcessRunner(Control())
assert dist.is_initialized() and dist.get_world_size() == 1
second.close()
assert dist.is_initialized(), "that group was the first one's"
dist.barrier()
first.close()
first.close()
assert not dist.is_initialized()
again = InProcessRunner(Control())
dist.barrier()
again.close()
"""


def test_the_runner_destroys_only_its_own_process_group() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_sharded_level_needs_no_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & os.environ.keys():
        monkeypatch.delenv(name)
    stages = tiny_job(tmp_path)["stages"][:3]
    stages[2]["zero_level"] = "optimizer"
    assert finish(write_job(tmp_path, stages=stages), "--in-process") == 0
