import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from wandb.errors import AuthenticationError
from wandb.proto.wandb_internal_pb2 import Record

from espalier.jobs.job import Job
from espalier.stages.result import Cost, StageResult
from espalier.tracking import wandb_session, wandb_tracker
from espalier.tracking.epochs import EPOCHS, EpochLog
from espalier.tracking.events import EVENTS, Event, EventLog, read_events
from espalier.tracking.follow import Follower, News
from espalier.tracking.mirror import Access, Mirror
from espalier.tracking.record import STEPS, StepLog
from espalier.tracking.wandb_settings import WANDB
from framework.tracking.epochs import epoch
from framework.tracking.samples import job, step

CANARY = "canary" * 7
KEY = "0123456789" * 4


def opened(folder: Path, mode: str = "offline", *, key: str | None = None) -> Mirror:
    asked: Job = job(mode=mode)
    secrets = {} if key is None else {"WANDB_API_KEY": key}
    events = EventLog(folder / EVENTS)
    return Mirror.open(folder, asked, events, kind=WANDB, settings=asked.tracking.wandb, access=Access(secrets))


def records(folder: Path) -> list[Record]:
    """What the one offline run in `folder` holds once its end is on disk; W&B's service may be late."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        (path,) = folder.glob("wandb/offline-run-*/*.wandb")
        found = [Record.FromString(data) for data in _log_entries(path.read_bytes())]
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError("the offline run has no end")


def _log_entries(data: bytes) -> Iterator[bytes]:
    """Whole entries of a log of 32 KiB blocks in which long entries lie in parts, as LevelDB writes them."""
    place, entry = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, part = struct.unpack_from("<IHB", data, place)
        if place + 7 + length > len(data):  # still being written
            return
        entry += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # whole, or the last part
            yield entry
            entry = b""


def history(folder: Path) -> list[dict]:
    rows = [record.history.item for record in records(folder) if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def steps_sent(folder: Path) -> list[tuple[int, int]]:
    return [(row["trainer/step"], row["progress/attempt"]) for row in history(folder) if "progress/attempt" in row]


def write_result(folder: Path) -> None:
    models = {"parent": {"perplexity": 24.125, "parameters": 134_515_008, "samples": [{"prompt": "a", "text": "b"}]}}
    result = StageResult("score", "evaluate", "k", "done", None, {"models": models}, Cost(tokens=8192))
    path = folder / "stages" / "score" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result.to_json()))


def test_an_offline_run_holds_steps_config_axis_and_results(folder):
    write_result(folder)
    mirror = opened(folder)
    mirror.receive(News(steps=(step(1), step(2, loss=2.25))))
    mirror.receive(News(steps=(step(3),), events=(Event("finished", "score", 2000.0),)))
    mirror.close()
    assert read_events(folder / EVENTS) == []
    assert steps_sent(folder) == [(1, 1), (2, 1), (3, 1)]
    second = history(folder)[1]
    assert second["train/loss"] == second["loss/forward_kl"] == second["stage/heal/loss"] == 2.25
    assert (second["train/tokens"], second["perf/peak_gib"]) == (2048, 3.0)
    held = records(folder)
    started = next(record.run for record in held if record.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert (started.display_name, config["storage"]) == ("slim", "/nowhere")
    assert any(record.metric.glob_name == "*" and record.metric.step_metric == "trainer/step" for record in held)
    summary = [i for r in held if r.HasField("summary") for i in r.summary.update]
    assert any(json.loads(item.value_json) == 24.125 for item in summary)
    assert any((item.key or item.nested_key[0]) == "stages" for item in summary)


def test_steps_taken_again_are_there_once_with_the_value_that_survived(folder):
    log, follower, mirror = StepLog(folder / STEPS), Follower(folder), opened(folder)
    for number in range(1, 6):
        log.append(step(number))
    mirror.receive(follower.poll())
    log.rewind("heal", 3)
    for number in range(4, 7):
        log.append(step(number, attempt=2))
    mirror.receive(follower.poll())
    log.append(step(7, attempt=2))
    mirror.receive(follower.poll())
    mirror.close()
    assert steps_sent(folder) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)]


def test_a_mirror_that_starts_anew_leaves_one_offline_run_with_every_step_once(folder):
    program = f"""
import os, signal
from pathlib import Path
from espalier.tracking.follow import Follower, News
from framework.tracking.samples import step
from framework.tracking.test_mirror import opened
opened(Path({str(folder)!r})).receive(News(steps=(step(1), step(2))))
os.kill(os.getpid(), signal.SIGKILL)
"""
    tests = str(Path(__file__).parents[2])
    # Without the address of this process's W&B service, which would keep the run open.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment["PYTHONPATH"] = os.pathsep.join([tests, *filter(None, [environment.get("PYTHONPATH")])])
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1
    second = opened(folder)
    second.receive(News(steps=(step(1), step(2), step(3, attempt=2))))
    second.close()
    assert steps_sent(folder) == [(1, 1), (2, 1), (3, 2)]


def test_no_secret_of_the_environment_reaches_a_file(folder, monkeypatch):
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "ANYTHING"):
        monkeypatch.setenv(name, CANARY)
    mirror = opened(folder)
    mirror.receive(News(steps=(step(1),)))
    mirror.close()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_nothing_is_told_of_the_machine_or_what_is_installed_on_it(folder):
    mirror = opened(folder)
    mirror.receive(News(steps=(step(1),)))
    mirror.close()
    assert {record.run.host for record in records(folder) if record.HasField("run")} == {"unnamed"}
    assert list(folder.glob("wandb/offline-run-*/files/*")) == []


def test_a_failure_is_reported_once_and_never_raised(folder):
    mirror = opened(folder)

    class Dead:
        def log(self, values, *, step):
            raise OSError("the service is gone")

    mirror._tracker._run = Dead()
    for number in range(1, 4):
        mirror.receive(News(steps=(step(number),)))
    mirror.close()
    events = read_events(folder / EVENTS)
    assert [event.kind for event in events] == ["mirror"]
    assert "the service is gone" in events[0].message


def test_where_nothing_answers_the_run_is_kept_offline_at_once_and_says_how_to_send_it(folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(wandb_session, "mode_and_url", lambda: ("online", url))
    began = time.monotonic()
    mirror = opened(folder, "auto", key=KEY)
    assert time.monotonic() - began < 5.0
    mirror.receive(News(steps=(step(1),)))
    mirror.close()
    assert steps_sent(folder) == [(1, 1)]
    assert f"`espalier sync {folder}`" in mirror.advice()
    assert ["cannot be reached" in event.message for event in read_events(folder / EVENTS)] == [True]


@pytest.fixture
def new_service() -> Iterator[None]:
    """W&B reads its environment once, when its service starts."""
    wandb.teardown()
    yield
    wandb.teardown()


def test_a_server_that_begins_no_run_is_left_for_an_offline_one_of_the_same_id(new_service, folder, monkeypatch):
    real = wandb_session.library_settings

    def settings(run, *, online, **how):
        made = real(run, online=online, **how)
        return made.model_copy(update={"init_timeout": 1.0}) if online else made

    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setattr(wandb_session, "library_settings", settings)
        mirror = opened(folder, "auto", key=KEY)
        mirror.receive(News(steps=(step(1),)))
        mirror.close()
    assert steps_sent(folder) == [(1, 1)] and "`espalier sync " in mirror.advice()
    assert ["did not take this run" in event.message for event in read_events(folder / EVENTS)] == [True]


@pytest.mark.parametrize(("asked", "mode", "is_kept"), [("disabled", "online", False), ("offline", "auto", True)])
def test_the_mode_of_the_environment_is_heeded(folder, monkeypatch, asked, mode, is_kept):
    monkeypatch.setattr(wandb_session, "mode_and_url", lambda: (asked, "http://127.0.0.1:9"))
    mirror = opened(folder, mode, key=KEY)
    mirror.receive(News(steps=(step(1),)))
    mirror.close()
    assert (folder / "wandb").exists() == is_kept and not read_events(folder / EVENTS) and not mirror.advice()


def test_asked_to_be_online_without_a_key_it_says_so_and_goes_offline(folder, monkeypatch):
    monkeypatch.setattr(wandb_session, "has_key", lambda: False)
    mirror = opened(folder, "online")
    mirror.receive(News(steps=(step(1),)))
    mirror.close()
    assert steps_sent(folder) == [(1, 1)]
    assert ["wandb login" in event.message for event in read_events(folder / EVENTS)] == [True]
    assert "wandb login" in mirror.advice() and "`espalier sync " in mirror.advice()


def test_a_key_is_found_where_wandb_keeps_it(folder, tmp_path, monkeypatch):
    assert not wandb_session.has_key()
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {CANARY}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert wandb_session.has_key()


def test_what_does_not_look_like_a_key_is_none(folder, monkeypatch):
    def refuse(**given: object) -> bool:
        raise AuthenticationError("API key must have 40+ characters")

    monkeypatch.setattr(wandb, "login", refuse)
    assert not wandb_session.has_key()


def test_off_writes_nothing(folder):
    mirror = opened(folder, "off")
    mirror.receive(News(steps=(step(1),)))
    mirror.close()
    assert not (folder / "wandb").exists()


def test_repeated_steps_that_keep_their_first_value_are_reported(folder):
    class Server:
        def restart(self):
            return None

        def log_step(self, record):
            pass

    mirror = Mirror(folder, EventLog(folder / EVENTS), title="W&B")
    mirror._tracker, mirror._sent_step = Server(), 5
    mirror.receive(News(steps=tuple(step(number, attempt=2) for number in (4, 5, 6)), num_forgotten_steps=2))
    mirror.receive(News(steps=(step(7, attempt=2),)))
    (event,) = read_events(folder / EVENTS)
    assert "steps 4 to 5 were taken again: W&B keeps" in event.message and "steps.jsonl" in event.message


def test_a_server_s_run_goes_on_where_it_was_and_keeps_what_it_has(folder, monkeypatch):
    sent = []

    class Online:
        url = "https://wandb.ai/we/espalier/runs/w"
        offline, starting_step, id, summary = False, 4, "w", {"trainer/step": 4, "stage/heal/epoch": 1}

        def log(self, values, *, step):
            sent.append(step)

        def define_metric(self, *names, **settings):
            pass

    monkeypatch.setattr(wandb_session, "mode_and_url", lambda: ("online", ""))
    monkeypatch.setattr(wandb_tracker, "is_reachable", lambda url: True)
    monkeypatch.setattr(wandb_session, "begin", lambda run, settings, **how: Online())
    mirror = opened(folder, "online", key=KEY)
    ends = tuple(epoch(number, plain=True) for number in (1, 2))
    for end in ends:
        EpochLog(folder / EPOCHS).append(end)
    mirror.receive(News(steps=tuple(step(number) for number in range(1, 8)), epochs=ends))
    mirror.receive(News(steps=(step(7, attempt=2), step(8)), num_forgotten_steps=1))
    assert sent == [4, 5, 6, 6, 7, 8], "the end of epoch 1, at step 3, is there; that of 2 joins step 6"
