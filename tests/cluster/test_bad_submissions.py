"""A real head with two nodes, one of which has its own view of a folder: bad submissions, and one that has to wait."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from test_jobs_address import VERSION, http_server
from test_on_cluster import command, jobs_on, wait_for

from support.kill import num_steps
from support.ray_head import Head, can_hide_folders, listed, ray_head, ray_node
from support.tiny import tiny_job, write_job, write_text

pytest.importorskip("aiohttp_cors", reason="the Jobs server needs ray[default]")

_OTHER_PYTHON = """
import sys
from espalier_cluster import command, submit
versions = submit.own_versions()
submit.own_versions = lambda: versions | {"python": "3.9"}
command.main()
"""


@contextmanager
def dead_wandb() -> Iterator[str]:
    """A server that knows no key."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refused(head: Head, *arguments: str, program: str = "") -> str:
    """The one sentence that a submit is refused with."""
    asked = [sys.executable, *(["-c", program] if program else ["-m", "espalier_cluster"]), "submit", *arguments]
    told = subprocess.run(asked, env=head.environment, capture_output=True, text=True, timeout=200, check=False)
    assert told.returncode == 2, told.stdout + told.stderr
    (sentence,) = [line for line in told.stderr.splitlines() if line.startswith("refused: ")]
    return sentence


def with_variables(head: Head, **variables: str) -> Head:
    return replace(head, environment=head.environment | variables)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not can_hide_folders(), reason="needs root and `unshare`, to hide a folder from one node")
def test_bad_submissions_are_refused_in_a_sentence_each_and_leave_nothing(tmp_path: Path) -> None:
    job, own = str(write_job(tmp_path)), tmp_path / "own"
    write_text(own / "text")
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    (tmp_path / "runs" / "taken" / "thesis.tex").touch()
    (tmp_path / "unreadable.yaml").write_text("name: [tiny\n")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_dir())
    key = "0123456789" * 4
    with (
        dead_wandb() as url,
        ray_head(tmp_path, num_cpus=1, variables={"WANDB_BASE_URL": url, "WANDB_API_KEY": key}) as head,
        ray_node(head, tmp_path / "node.log", hidden=own, labels="team=blind"),
    ):
        there = ("--address", head.address)
        wrong, elsewhere = "w" * 64, "http://10.0.0.9:8265"
        assert "nothing answered" in refused(head, job, "--address", "127.0.0.1:9")
        assert "turned away" in refused(with_variables(head, RAY_AUTH_TOKEN=wrong), job, *there)
        with http_server(VERSION, needs_token=False) as (open_url, _):
            assert "lets anybody in" in refused(head, job, "--address", open_url)
        assert "RAY_ADDRESS names" in refused(with_variables(head, RAY_ADDRESS=elsewhere), job, *there)
        assert "`name`" in refused(head, job, "name=../tiny", *there)
        assert "unreadable.yaml" in refused(head, str(tmp_path / "unreadable.yaml"), *there)
        assert "thesis.tex" in refused(head, job, "name=taken", *there)
        assert "`python on " in refused(head, job, *there, program=_OTHER_PYTHON)
        assert "does not use it: No such file" in refused(head, job, f"storage={own}/runs", *there)
        assert "No such file" in refused(head, job, f"data.train.files=[{own}/text/*.txt]", *there)
        assert "the cluster has no GPU" in refused(head, job, "workers.gpus_each=1", *there)
        assert "at most 2" in refused(head, job, "workers.count=4", *there)
        assert "what a node has: blind" in refused(head, job, "workers.labels={team: sighted}", *there)
        dead = refused(head, job, "tracking.wandb.mode=online", *there)
        assert "does not take the key" in dead and key not in dead
        assert not jobs_on(head)
        assert all(one["state"] == "DEAD" for one in listed(head, "actors")) and not listed(head, "placement_groups")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_dir()) == before
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.rglob("*.log"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_hide_folders(), reason="needs root and `unshare`, to hide a folder from one node")
def test_a_run_that_waits_says_for_whom_and_labels_keep_workers_off_a_node(tmp_path: Path) -> None:
    stages = tiny_job(tmp_path)["stages"]
    stages[2] |= {"budget": {"steps": 2000}, "checkpoint": {"every": 500}}
    (tmp_path / "runs").mkdir()
    job = str(write_job(tmp_path, stages=stages, workers={"count": 1, "labels": {"team": "!blind"}}))
    with (
        ray_head(tmp_path, num_cpus=1) as head,
        ray_node(head, tmp_path / "n.log", hidden=tmp_path / "runs", labels="team=blind"),
    ):
        told = command(head, "submit", job, "--address", head.address)
        assert "✓ workers   room for 1, 1 CPU each" in told and "written by 1 node" in told
        wait_for(lambda: num_steps(tmp_path / "runs" / "tiny") > 2, seconds=240)
        told = command(head, "submit", job, "name=other", "stages.heal.budget.steps=4", "--address", head.address)
        assert "… workers   busy: run tiny holds 1 CPU; 0 of 1 CPU free" in told
        log = tmp_path / "runs" / "other" / "logs" / "driver" / "000001.log"
        wait_for(lambda: "Waiting: busy: run tiny holds 1 CPU" in log.read_text(), seconds=240)
        command(head, "stop", str(tmp_path / "runs" / "tiny"))
        told = command(head, "logs", str(tmp_path / "runs" / "other"), "--follow")
        assert "[5/5] out finished" in told
