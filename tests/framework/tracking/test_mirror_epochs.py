import json
from pathlib import Path

import pytest

from espalier.tracking.epochs import EPOCHS, EpochLog
from espalier.tracking.events import EVENTS, Event, EventLog, read_events
from espalier.tracking.follow import Follower, News
from espalier.tracking.mirror import Mirror
from espalier.tracking.record import STEPS, StepLog
from espalier.tracking.tracker import Position
from framework.tracking.epochs import NUM_SAMPLES, STEPS_EACH, epoch, weights, write_epoch, write_list
from framework.tracking.samples import step
from framework.tracking.test_mirror import history, opened, records, write_result

OWN, WEIGHTS = "stage/heal", "weights/heal"


def write_steps(folder: Path, numbers: range, *, attempt: int = 1) -> None:
    for number in numbers:
        StepLog(folder / STEPS).append(step(number, attempt=attempt))


def epoch_rows(folder: Path) -> list[dict]:
    """The history's rows of epochs, in order."""
    return [row for row in history(folder) if f"{OWN}/epoch" in row]


def artifacts(folder: Path) -> list:
    return [record.artifact for record in records(folder) if record.artifact.type == "samples"]


def table_of(folder: Path, row: dict) -> dict:
    (path,) = folder.glob(f"wandb/offline-run-*/files/{row[f'{WEIGHTS}/heaviest/path']}")
    return json.loads(path.read_text())


def test_every_epoch_has_figures_histogram_table_and_artifact(folder):
    write_list(folder, "heal", "suspects", [96])
    write_steps(folder, range(1, 3 * STEPS_EACH + 1))
    for number in (1, 2, 3):
        write_epoch(folder, epoch(number))
    mirror = opened(folder)
    mirror.receive(Follower(folder).poll())
    mirror.close()
    assert read_events(folder / EVENTS) == []
    rows = epoch_rows(folder)
    assert [(row[f"{OWN}/epoch"], row["trainer/step"]) for row in rows] == [(1, 3), (2, 6), (3, 9)]
    for number, (row, artifact) in enumerate(zip(rows, artifacts(folder), strict=True), 1):
        for name, value in epoch(number).correction.items():
            assert row[f"{WEIGHTS}/{name}"] == value
        for name, value in epoch(number).metrics.items():
            assert row[f"{OWN}/valid/{name}"] == value
        assert row[f"{WEIGHTS}/histogram/_type"] == "histogram"
        assert sum(row[f"{WEIGHTS}/histogram/values"]) == NUM_SAMPLES
        assert row[f"{WEIGHTS}/histogram/bins"][-1] == pytest.approx(weights(number).max())
        assert row[f"{WEIGHTS}/heaviest/_type"] == "table-file"
        table = table_of(folder, row)
        assert table["columns"] == ["name", "text", "label", "teacher", "student", "weight"]
        assert len(table["data"]) == 50
        assert table["data"][0] == ["s096", "text 96", "good", "0", "1", pytest.approx(weights(number)[96])]
        assert set(artifact.aliases) == {"latest", f"epoch-{number}"}
        (content,) = artifact.manifest.contents
        assert Path(content.local_path) == folder / epoch(number).samples
        assert json.loads(artifact.metadata)["effective_share"] == epoch(number).correction["effective_share"]


def test_steps_and_epochs_are_sent_in_the_order_they_happened(folder):
    mirror = opened(folder)
    write_epoch(folder, epoch(1))
    write_steps(folder, range(1, 6))
    mirror.receive(Follower(folder).poll())
    mirror.receive(News(epochs=(epoch(2, plain=True),)))  # its last step is not told yet
    mirror.receive(News(steps=(step(6), step(7))))
    mirror.receive(News(epochs=(epoch(3, plain=True),)))  # its last step was left out
    mirror.close()
    sent = [(row["trainer/step"], row.get(f"{OWN}/epoch")) for row in history(folder)]
    steps = [(number, None) for number in range(1, 8)]
    assert sent == [*steps[:2], (3, 1), *steps[3:5], (6, 2), steps[6], (9, 3)], (
        "an epoch is in the row of its last step"
    )


def test_epochs_that_were_taken_back_are_there_once_as_they_came_out(folder):
    follower, mirror = Follower(folder), opened(folder)
    write_steps(folder, range(1, 8))
    for number in (1, 2):
        write_epoch(folder, epoch(number))
    mirror.receive(follower.poll())
    StepLog(folder / STEPS).rewind("heal", 4)
    EpochLog(folder / EPOCHS).rewind("heal", 4)
    write_steps(folder, range(5, 8), attempt=2)
    write_epoch(folder, epoch(2, attempt=2))
    write_list(folder, "heal", "suspects", [96], text="afterwards")
    mirror.receive(follower.poll())
    mirror.close()
    rows = epoch_rows(folder)
    assert [row[f"{OWN}/epoch"] for row in rows] == [1, 2]
    assert [table_of(folder, row)["data"][0][1] for row in rows] == ["afterwards 96", "afterwards 96"]
    aliases = [sorted(artifact.aliases) for artifact in artifacts(folder)]
    assert aliases == [["epoch-1", "latest"], ["epoch-2", "latest"]]


def test_epochs_taken_back_alone_make_an_offline_run_anew(folder):
    """The end of an epoch may be lost though its last step is kept."""
    follower, mirror = Follower(folder), opened(folder)
    write_steps(folder, range(1, 4))
    write_epoch(folder, epoch(1))
    mirror.receive(follower.poll())
    (folder / EPOCHS).write_text("")
    mirror.receive(follower.poll())
    mirror.close()
    assert epoch_rows(folder) == []


def test_a_run_that_is_written_anew_still_has_the_results_of_earlier_stages(folder):
    write_result(folder)
    mirror = opened(folder)
    mirror.receive(News(events=(Event("finished", "score", 2000.0),)))
    mirror.receive(News(num_forgotten_steps=1))
    mirror.close()
    summary = [item for record in records(folder) for item in record.summary.update]
    assert 8192 in [json.loads(item.value_json) for item in summary if "tokens" in f"{item.key}{item.nested_key}"]


def test_what_a_resumed_run_has_already_is_not_sent_again(folder):
    sent = []

    class Server:
        def start(self):
            return Position(9, lambda stage: 2 if stage == "heal" else 0)

        def restart(self):
            return None

        def log_epoch(self, record):
            sent.append(record.epoch)

    mirror = Mirror(folder, EventLog(folder / EVENTS), title="a server")
    mirror._tracker = Server()
    mirror._begin_at(mirror._tracker.start())
    epochs = tuple(epoch(number, plain=True) for number in (1, 2, 3))
    mirror.receive(News(epochs=epochs))
    mirror.receive(News(epochs=(epoch(2, plain=True, attempt=2),), num_forgotten_epochs=2))
    assert sent == [3]
    assert read_events(folder / EVENTS) == []


def test_samples_of_text_and_samples_that_are_gone(folder):
    write_steps(folder, range(1, 2 * STEPS_EACH + 1))
    write_epoch(folder, epoch(1), bare=True)
    write_epoch(folder, epoch(2), bare=True)
    (folder / epoch(2).samples).unlink()
    mirror = opened(folder)
    mirror.receive(Follower(folder).poll())
    mirror.close()
    assert read_events(folder / EVENTS) == []
    first, second = epoch_rows(folder)
    assert table_of(folder, first)["data"][0][:5] == ["96", None, None, None, None]
    assert second[f"{WEIGHTS}/alpha"] == epoch(2).correction["alpha"]
    assert f"{WEIGHTS}/histogram/_type" not in second
    assert len(artifacts(folder)) == 1


def test_an_epoch_that_cannot_be_read_ends_the_mirror_and_nothing_else(folder):
    write_steps(folder, range(1, STEPS_EACH + 1))
    write_epoch(folder, epoch(1))
    (folder / epoch(1).samples).write_bytes(b"no parquet")
    mirror = opened(folder)
    mirror.receive(Follower(folder).poll())
    mirror.close()
    assert ["no longer mirrored" in event.message for event in read_events(folder / EVENTS)] == [True]
