"""Another user of the machine during a local run: what can be read, written, reached.

    sudo python tests/faults/stranger.py

Starts a run with two workers and keys in its environment, becomes another user, and tries every port that its
processes listen on, every file of the run and of Ray, and all that /proc tells. The ports are held to the table in
SECURITY.md. Prints a table; exits with 1 on a finding.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from faults import stranger_probe as probe  # noqa: E402
from faults.stranger_probe import Tried, as_another_user  # noqa: E402
from support.kill import num_steps  # noqa: E402
from support.tiny import tiny_job, write_job  # noqa: E402

CANARIES = {
    "WANDB_API_KEY": "c0ffee" * 6 + "beef",
    "HF_TOKEN": "hf_canaryCanaryCanary",
    "AWS_SECRET_ACCESS_KEY": "canary/aws/canary/aws",
}
_START_SECONDS, _END_SECONDS = 240.0, 400.0
_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@dataclass(frozen=True)
class Row:
    """A line of the table in SECURITY.md: who listens, as which process, and what protects it."""

    process: re.Pattern[str]
    guard: str


def rows() -> list[Row]:
    """Of the table of a local run: | what | `process` | protected by |."""
    text = (ROOT / "SECURITY.md").read_text()
    table = text[text.index("<!-- local listeners -->") : text.index("<!-- end -->")]
    found = re.findall(r"^\|[^|]+\| `([^`]+)` \| ([a-z]+)", table, re.M)
    return [Row(re.compile(name.replace("\\|", "|")), guard) for name, guard in found]


@dataclass(frozen=True)
class Run:
    """A run that goes on: its driver, the folder of all that was made for it."""

    driver: subprocess.Popen[bytes]
    base: Path

    @property
    def folder(self) -> Path:
        return self.base / "runs" / "tiny"

    def processes(self) -> list[psutil.Process]:
        driver = psutil.Process(self.driver.pid)
        every = (driver, *driver.children(recursive=True))
        return [one for one in every if one.status() != psutil.STATUS_ZOMBIE]

    def cluster_folder(self) -> Path:
        for process in self.processes():
            if found := re.search(r"/tmp/espalier-\w+", " ".join(process.cmdline())):
                return Path(found[0])
        raise RuntimeError("no process of the run names Ray's folder")


def start(base: Path, *, steps: int) -> Run:
    """A run with two workers in the middle of its training, with keys in its environment."""
    base.chmod(0o755)
    stages = tiny_job(base)["stages"]
    stages[2] |= {"budget": {"steps": steps}, "checkpoint": {"every": 5}}
    write_job(base, stages=stages, workers={"count": 2}, tracking={"wandb": {"mode": "offline"}})
    path = os.pathsep.join([str(ROOT / "framework"), str(ROOT / "cluster")])
    environment = {**os.environ, **CANARIES, "PYTHONPATH": path}
    command = [sys.executable, "-m", "espalier_cluster.command", "run", str(base / "job.yaml")]
    with (base / "out").open("wb") as out:
        run = Run(subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True), base)
    deadline = time.monotonic() + _START_SECONDS
    while num_steps(run.folder) < 3:
        if run.driver.poll() is not None or time.monotonic() > deadline:
            run.driver.kill()
            raise RuntimeError(f"the run did not start:\n{(base / 'out').read_text()[-2000:]}")
        time.sleep(0.1)
    return run


def try_all(run: Run) -> list[tuple[str, list[Tried]]]:
    """Everything that is tried while the run goes on, by kind."""
    processes = run.processes()
    token = run.cluster_folder() / "token"
    secrets = [token.read_bytes(), *(value.encode() for value in CANARIES.values())]
    files, ports, sockets = _files(run, processes), _listeners(processes), _unix_sockets(processes)
    guarded = [(name, port, {row.guard for row in rows() if row.process.fullmatch(name)}) for name, _, port in ports]
    pids, addresses = [process.pid for process in processes], _addresses()
    return [
        ("files and folders", as_another_user(lambda: probe.try_files(files))),
        ("/proc of its processes", as_another_user(lambda: probe.try_processes(pids, secrets))),
        ("sockets in files", as_another_user(lambda: [probe.try_unix_socket(path) for path in sockets])),
        ("listed in SECURITY.md", [_listed(name, address) for name, address, _ in ports]),
        (
            "ports",
            as_another_user(lambda: [one for port in guarded for one in _try_port(*port, addresses)]),
        ),
        ("keys in environments", [one for process in processes for one in _environment(process, run.driver.pid)]),
        ("keys in files", list(_keys_in_files(files, secrets, token))),
    ]


def _try_port(name: str, port: int, guards: set[str], addresses: list[str]) -> Iterator[Tried]:
    yield probe.try_elsewhere(port, addresses)
    yield probe.try_noise(port)
    if "header" in guards:
        yield probe.try_http(name, port)
    elif "token" in guards:
        yield probe.try_rpc(name, port, may_be_silent="nothing" in guards)


def _listed(name: str, address: str) -> Tried:
    what = f"{name} listens on {address}"
    if address not in _LOOPBACK:
        return Tried(what, "seen", "it listens to other machines")
    is_listed = any(row.process.fullmatch(name) for row in rows())
    return Tried(what, "seen", "" if is_listed else "SECURITY.md does not list it")


def _listeners(processes: list[psutil.Process]) -> list[tuple[str, str, int]]:
    """(process, address, port) of each."""
    found = []
    for process in processes:
        for one in process.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN:
                found.append((_name(process), one.laddr.ip, one.laddr.port))
    return found


def _name(process: psutil.Process) -> str:
    """Ray names its processes after their work, `ray::_train`; others go by their program."""
    title = " ".join(process.cmdline()[:1])
    return title.split()[0] if title.startswith("ray::") else process.name()


def _unix_sockets(processes: list[psutil.Process]) -> list[str]:
    """That they listen on, by path; `@name` where there is no file."""
    pids = {process.pid for process in processes}
    lines = subprocess.run(["ss", "-lxpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[4] for line in lines if any(f"pid={pid}," in line for pid in pids)]


def _files(run: Run, processes: list[psutil.Process]) -> list[Path]:
    """All that the run has made: its folder, the text's cache, Ray's folder, and what its processes hold open."""
    roots = [run.folder, run.folder.parent / ".cache", run.cluster_folder()]
    found = {path for root in roots for path in (root, *root.rglob("*"))}
    for process in processes:
        opened = (Path(one.path) for one in process.open_files())
        found |= {path for path in opened if path.is_relative_to("/tmp") or path.is_relative_to("/dev/shm")}
    return sorted(path for path in found - {run.base / "out"} if path.exists())


def _environment(process: psutil.Process, driver: int) -> Iterator[Tried]:
    """The W&B key is the driver's alone, and of W&B's own process that it has started."""
    try:
        has_key = CANARIES["WANDB_API_KEY"] in process.environ().values()
    except psutil.Error:
        return
    is_meant = process.pid == driver
    yield Tried(
        f"environment of {_name(process)}", "looked at", "it holds W&B's key" if has_key and not is_meant else ""
    )


def _keys_in_files(files: list[Path], secrets: list[bytes], token: Path) -> Iterator[Tried]:
    for path in files:
        if path != token:
            try:
                data = path.read_bytes()
            except OSError:  # a folder, a socket, or gone meanwhile
                continue
            yield Tried(f"look into {path}", "done", "it holds a key" if any(one in data for one in secrets) else "")


def _addresses() -> list[str]:
    every = (one for of_one in psutil.net_if_addrs().values() for one in of_one if one.family == socket.AF_INET)
    return [one.address for one in every if not one.address.startswith("127.")]


def main() -> int:
    if os.getuid():
        print("only root can become another user: sudo python tests/faults/stranger.py")
        return 2
    base = Path(tempfile.mkdtemp(prefix="stranger-"))
    try:
        run = start(base, steps=300)
        try:
            kinds = try_all(run)
            code = run.driver.wait(_END_SECONDS)
        finally:
            run.driver.kill()
        kinds.append(("the run, after all this", [Tried("exit code", str(code), "" if code == 0 else "it was harmed")]))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    for of, tried in kinds:
        print(f"{of:<26}{len(tried):>6} tried{sum(bool(one.finding) for one in tried):>6} findings")
    findings = [f"FOUND {one.what} ({one.came}): {one.finding}" for _, tried in kinds for one in tried if one.finding]
    print("\n".join(findings))
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
