"""States on an object store: the stage is stopped, goes on, and ends as it would have beside the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from espalier.distributed.world import World
from support.scenes import Scene, at, outcome, play, prepare_ground
from support.spawn import run_ranks

SETTINGS = {"budget": {"steps": 6}, "checkpoint": {"every": 2}}


def stopped_and_resumed(world: World, root: str, job: dict[str, str]) -> tuple[list[str], dict]:
    prepare_ground(world, root, SETTINGS, **job)
    ends = [play(world, root, Scene(on_step=at(3, _stop))), play(world, root, Scene(attempt=2))]
    return ends, outcome(root)


def _stop(rank, control, report):
    control.stop.set()
    return report


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("states")
    yield "s3://states/runs"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.slow
def test_a_stage_whose_states_are_on_an_object_store(tmp_path: Path, bucket: str) -> None:
    beside = run_ranks(stopped_and_resumed, 1, str(tmp_path / "beside"), {})[0]
    ends, afar = run_ranks(stopped_and_resumed, 1, str(tmp_path / "afar"), {"checkpoints": bucket})[0]
    assert ends == beside[0] == ["stopped: after step 3, which is saved", "done"]
    assert afar["steps"] == beside[1]["steps"]
    assert not list((tmp_path / "afar").rglob("manifest.json"))
    import s3fs

    found = s3fs.S3FileSystem().glob("states/runs/tiny/stages/heal/*/manifest.json")
    assert [path.split("/")[-2] for path in found] == ["step-00000004", "step-00000006"]
