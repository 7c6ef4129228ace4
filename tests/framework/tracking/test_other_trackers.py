"""TensorBoard's files, read by a library that writes such files, and MLflow, a stand-in of its server."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event as TensorboardEvent
from tensorboardX.record_writer import masked_crc32c

from espalier.jobs.job import Job
from espalier.jobs.tracker import TRACKERS
from espalier.stages.result import Cost, StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking.epochs import EPOCHS, EpochLog
from espalier.tracking.events import EVENTS, EventLog, read_events
from espalier.tracking.follow import Follower
from espalier.tracking.mirror import Access, Mirror
from espalier.tracking.record import STEPS, StepLog
from framework.tracking.epochs import epoch
from framework.tracking.samples import job, step
from support.mlflow_server import mlflow_server


@pytest.fixture
def mlflow():
    with mlflow_server() as served:
        yield served


def asked(**tracking: object) -> Job:
    return Job.model_validate({**job().model_dump(mode="json"), "tracking": {"wandb": {"mode": "off"}, **tracking}})


def mirror(folder: Path, name: str, *, uri: str | None = None, secrets: dict[str, str] | None = None) -> Mirror:
    made = asked(**{name: {} if uri is None else {"uri": uri}})
    events, settings = EventLog(folder / EVENTS), getattr(made.tracking, name)
    return Mirror.open(folder, made, events, kind=TRACKERS[name], settings=settings, access=Access(secrets or {}))


def show(folder: Path, name: str, **how: str) -> None:
    shown = mirror(folder, name, **how)
    shown.receive(Follower(folder).poll())
    shown.close()
    assert [event.message for event in read_events(folder / EVENTS) if event.kind == "mirror"] == []


def write_steps(folder: Path, numbers: range, *, attempt: int = 1) -> None:
    for number in numbers:
        StepLog(folder / STEPS).append(step(number, attempt=attempt))


def write_result(folder: Path) -> None:
    result = StageResult("heal", "distill", "k", "done", None, {"loss": 0.5}, Cost(tokens=8192))
    RunFolder(folder).write_result(result)
    EventLog(folder / EVENTS).add("finished", "heal")


def tensorboard(folder: Path) -> list[TensorboardEvent]:
    """All records of the only event file, each held to its checksums."""
    (file,) = folder.glob("tensorboard/events.out.tfevents.*")
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        message = data[12 : 12 + length]
        assert struct.unpack_from("<I", data, 8)[0] == masked_crc32c(data[:8])
        assert struct.unpack_from("<I", data, 12 + length)[0] == masked_crc32c(message)
        found.append(TensorboardEvent.FromString(message))
        data = data[16 + length :]
    return found


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [
        (one.step, value.simple_value) for one in tensorboard(folder) for value in one.summary.value if value.tag == tag
    ]


def test_tensorboard_has_each_step_and_epoch_once_through_a_resume(folder):
    write_steps(folder, range(1, 8))
    EpochLog(folder / EPOCHS).append(epoch(1))
    show(folder, "tensorboard")
    StepLog(folder / STEPS).rewind("heal", 5)
    write_steps(folder, range(6, 11), attempt=2)
    write_result(folder)
    show(folder, "tensorboard")
    found = tensorboard(folder)
    assert (found[0].file_version, found[1].session_log.status) == ("brain.Event:2", 1)
    assert points(folder, "train/loss") == [(number, 2.5) for number in range(1, 11)]
    assert points(folder, "progress/attempt") == [(number, 1 + (number > 5)) for number in range(1, 11)]
    assert points(folder, "weights/heal/alpha") == [(3, 1.5)] and points(folder, "stage/heal/loss")[-1] == (10, 0.5)


def test_steps_that_are_taken_back_while_tensorboard_is_shown_are_written_anew(folder):
    follower, shown = Follower(folder), mirror(folder, "tensorboard")
    write_steps(folder, range(1, 8))
    shown.receive(follower.poll())
    StepLog(folder / STEPS).rewind("heal", 3)
    write_steps(folder, range(4, 6), attempt=2)
    shown.receive(follower.poll())
    shown.close()
    assert points(folder, "progress/attempt") == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]


def test_a_value_that_float32_cannot_hold_is_the_nearest_and_no_number_stays_none(folder):
    StepLog(folder / STEPS).append(step(1, loss=1e300))
    StepLog(folder / STEPS).append(step(2, loss=float("nan")))
    show(folder, "tensorboard")
    (_, first), (_, second) = points(folder, "train/loss")
    assert first == pytest.approx(3.4e38, rel=0.01) and second != second


def test_files_that_the_tracker_has_not_written_stay_where_they_are(folder):
    other = folder / "tensorboard" / "events.out.tfevents.1.host"
    other.parent.mkdir()
    other.write_bytes(b"a profile")
    mirror(folder, "tensorboard").close()
    assert other.read_bytes() == b"a profile"


def test_mlflow_has_each_step_and_epoch_once_through_a_stop(folder, mlflow):
    write_steps(folder, range(1, 8))
    EpochLog(folder / EPOCHS).append(epoch(1))
    show(folder, "mlflow", uri=mlflow.url)
    write_steps(folder, range(8, 11), attempt=2)
    EpochLog(folder / EPOCHS).append(epoch(2))
    write_result(folder)
    for _ in range(2):
        show(folder, "mlflow", uri=mlflow.url)
    assert mlflow.points("train/loss") == [(number, 2.5) for number in range(1, 11)]
    assert mlflow.points("weights/heal/alpha") == [(3, 1.5), (6, 0.75)]
    assert mlflow.points("stage/heal/tokens") == [(10, 8192.0)]
    (run,) = mlflow.runs.values()
    assert (run["name"], run["status"], mlflow.experiments) == ("slim", "FINISHED", ["espalier"])
    assert {"key": "data.train.source", "value": "text"} in run["params"]


def test_a_step_that_mlflow_took_in_part_is_completed(folder, mlflow):
    write_steps(folder, range(1, 5))
    show(folder, "mlflow", uri=mlflow.url)
    (run,) = mlflow.runs.values()
    last = [one for one in run["metrics"] if one["step"] == 4]
    for one in last[3:]:  # the axis among them
        run["metrics"].remove(one)
    write_steps(folder, range(5, 7))
    show(folder, "mlflow", uri=mlflow.url)
    for key in ("train/loss", "train/lr", "perf/peak_gib", "trainer/step"):
        assert [place for place, _ in mlflow.points(key)] == [1, 2, 3, 4, 5, 6], key


@pytest.mark.parametrize(
    ("secrets", "sent"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
        ({}, None),
    ],
)
def test_keys_for_mlflow_come_from_the_environment(folder, mlflow, secrets, sent):
    mirror(folder, "mlflow", uri=mlflow.url, secrets=secrets).close()
    assert mlflow.authorizations == {sent}


def test_keys_for_mlflow_do_not_follow_a_redirect(folder, mlflow):
    secrets = {"MLFLOW_TRACKING_TOKEN": "sekret"}
    with mlflow_server() as elsewhere:
        mlflow.status, mlflow.location = 302, elsewhere.url.replace("127.0.0.1", "localhost")
        mirror(folder, "mlflow", uri=mlflow.url, secrets=secrets).close()
        assert mlflow.authorizations == {"Bearer sekret"} and not elsewhere.authorizations
    assert "a redirect" in (folder / EVENTS).read_text()


def test_a_key_in_mlflow_s_address_is_refused():
    with pytest.raises(ValueError, match=r"tracking\.mlflow\.uri"):
        asked(mlflow={"uri": "https://me:secret@host"})


def test_mlflow_that_fails_is_told_once_and_a_later_start_sends_the_rest(folder, mlflow):
    shown, follower = mirror(folder, "mlflow", uri=mlflow.url), Follower(folder)
    write_steps(folder, range(1, 3))
    shown.receive(follower.poll())
    mlflow.status = 500
    write_steps(folder, range(3, 6))
    shown.receive(follower.poll())
    shown.close()
    told = [event.message for event in read_events(folder / EVENTS) if event.kind == "mirror"]
    assert len(told) == 1 and "MLflow answers 500" in told[0] and "`espalier sync " in shown.advice()
    mlflow.status = 200
    again = mirror(folder, "mlflow", uri=mlflow.url)
    again.receive(Follower(folder).poll())
    again.close()
    assert [place for place, _ in mlflow.points("train/loss")] == [1, 2, 3, 4, 5]


def test_without_an_address_mlflow_says_where_one_belongs(folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mirror(folder, "mlflow").close()
    (event,) = read_events(folder / EVENTS)
    assert "tracking.mlflow.uri" in event.message and "MLFLOW_TRACKING_URI" in event.message


def test_a_failure_is_a_tag_in_mlflow(folder, mlflow):
    shown, follower = mirror(folder, "mlflow", uri=mlflow.url), Follower(folder)
    EventLog(folder / EVENTS).add("failed", "heal", "no worker got on for 12 s")
    shown.receive(follower.poll())
    shown.close()
    (run,) = mlflow.runs.values()
    assert {"key": "espalier.failed", "value": "heal: no worker got on for 12 s"} in run["tags"]
