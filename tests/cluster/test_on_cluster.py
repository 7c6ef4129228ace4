"""A real head with token and Jobs server: a run is submitted, found again, stopped, resumed and followed to its end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from support.kill import num_steps
from support.ray_head import Head, ray_head
from support.tiny import tiny_job, write_job

pytest.importorskip("aiohttp_cors", reason="the Jobs server needs ray[default]")


def command(head: Head, *arguments: str, code: int = 0) -> str:
    asked = [sys.executable, "-m", "espalier_cluster", *arguments]
    told = subprocess.run(asked, env=head.environment, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == code, told.stdout + told.stderr
    return told.stdout + told.stderr


def wait_for(condition: Callable[[], bool], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)


def jobs_on(head: Head) -> dict[str, str]:
    """Submission id -> status, as Ray lists them."""
    token = {"Authorization": f"Bearer {head.token_file.read_text()}"}
    listed = requests.get(f"{head.url}/api/jobs/", headers=token, timeout=20).json()
    return {one["submission_id"]: one["status"] for one in listed if one["submission_id"]}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_is_submitted_stopped_and_resumed_by_its_name(tmp_path: Path) -> None:
    stages = tiny_job(tmp_path)["stages"]
    stages[2] |= {"budget": {"steps": 400}, "checkpoint": {"every": 100}}
    job = write_job(tmp_path, stages=stages)
    run, storage = tmp_path / "runs" / "tiny", str(tmp_path / "runs")
    with ray_head(tmp_path) as head:
        wrong = replace(head, environment=head.environment | {"RAY_AUTH_TOKEN": "w" * 64})
        assert "turned away" in command(wrong, "submit", str(job), "--address", head.address, code=2)
        assert not run.exists() and not jobs_on(head)

        assert "tiny submitted" in command(head, "submit", str(job), "--address", head.address)
        assert "goes on already" in command(head, "submit", str(job), "--address", head.url)
        assert "other settings" in command(head, "submit", str(job), "seed=9", "--address", head.url, code=2)
        assert len(jobs_on(head)) == 1
        wait_for(lambda: num_steps(run) > 5)

        told = command(head, "stop", "tiny", "--storage", storage)
        assert "goes on from step" in told and "nothing of it is left on the cluster" in told
        (first,) = jobs_on(head)
        submissions = Submissions(RunFolder(run))
        ended = submissions.ended(submissions.named(first))  # type: ignore[arg-type]
        assert ended is not None and ended.exit_code == 75
        (saved,) = {int(one.parent.name[5:]) for one in run.glob("stages/heal/step-*/manifest.json")} - {0, 100, 200}

        told = command(head, "resume", "tiny", "--storage", storage, "--follow")
        assert f"from step {saved} of stage heal (3 of 5), saved by 1 worker" in told
        assert "[5/5] out finished" in told and "tiny submitted as espalier-tiny-2-" in told
        wait_for(lambda: sorted(jobs_on(head).values()) == ["FAILED", "SUCCEEDED"])
        steps = [json.loads(line) for line in (run / "records" / "steps.jsonl").read_text().splitlines()]
        assert [one["step"] for one in steps if one["stage"] == "heal"] == list(range(1, 401))

        assert "heal started" in command(head, "logs", str(run), "--stage", "heal")
        assert "process" in command(head, "logs", str(run), "--rank", "0")
        assert "not running" in command(head, "stop", str(run))
        spoken = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
        assert not any(head.token_file.read_bytes() in content for content in spoken)
