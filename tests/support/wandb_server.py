"""A stand-in for the W&B server on loopback: what wandb 0.31 asks in runs, for alerts and by `wandb sync`, and faults.

As the real one it keeps the lines of a run's files by their number: a line that is sent again replaces the earlier one.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

KEY = "0123456789" * 4
HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"

Door = Literal["graphql", "file_stream"]


@dataclass
class ServedRun:
    """What the server has of one run.

    Attributes:
        files: name of a streamed file -> number of a line -> the line.
        stored: path -> content of a file that was uploaded whole.
        asked_to_stop: whether somebody has pressed "Stop run".
    """

    project: str
    config: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    files: dict[str, dict[int, str]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    asked_to_stop: bool = False
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows, in order."""
        return [json.loads(line) for _, line in sorted(self.files.get(HISTORY, {}).items())]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.files.get(SUMMARY, {})
        return json.loads(lines[max(lines)]) if lines else {}


@dataclass(frozen=True)
class Trouble:
    """A fault: requests are delayed, then answered with a status; status 0: the connection is cut without an answer.

    Attributes:
        at: the requests that it meets; None: all.
    """

    status: int = 200
    seconds: float = 0.0
    at: Door | None = None


class WandbServer:
    """The server's state. `trouble` can be changed at any time and holds for requests that come after that."""

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.requests: list[str] = []
        self.artifacts: list[dict[str, Any]] = []
        self.trouble: Trouble | None = None
        self.url = ""
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def ask(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL operation."""
        with self._lock:
            self.requests.append(name)
            answer = getattr(self, f"_{name or 'artifact_type'}", None)
            return answer(given) if answer else {}

    def stream(self, run: str, sent: dict[str, Any]) -> dict[str, Any]:
        """Take lines of a run's files."""
        with self._lock:
            self.requests.append("file_stream")
            served = self.runs[run]
            for name, chunk in (sent.get("files") or {}).items():
                lines = served.files.setdefault(name, {})
                lines.update(enumerate(chunk["content"], start=chunk["offset"]))
            if "exitcode" in sent:
                served.exit_code = sent["exitcode"]
            return {"stopped": served.asked_to_stop}

    def store(self, run: str, path: str, content: bytes) -> None:
        with self._lock:
            self.runs[run].stored[path] = content

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        teams: dict[str, Any] = {"edges": []}
        return {"viewer": {"id": "u", "entity": "us", "username": "us", "email": "", "flags": "{}", "teams": teams}}

    def _ServerFeaturesQuery(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        return {"model": _project(given["project"]) | {"bucket": _resumable(given["name"], run) if run else None}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        is_new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], ServedRun(given["project"]))
        run.config |= json.loads(given["config"] or "{}")
        run.name = given["displayName"] or run.name
        bucket = {
            "id": given["name"], "name": given["name"], "displayName": run.name, "description": "",
            "config": json.dumps(run.config), "sweepName": None, "project": _project(given["project"]),
            "historyLineCount": len(run.files.get(HISTORY, {})),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _NotifyScriptableRunAlert(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs[given["runName"]].alerts.append(given)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        """The one operation that the library sends without a name: no artifact is known here."""
        return {"project": None}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Note the artifact, and claim to have its content, so that it is not sent."""
        self.artifacts.append(given["input"])
        latest = {"id": "a", "versionIndex": 0}
        sequence = {"id": "s", "latestArtifact": latest}
        return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        stored = [{"name": name, "uploadUrl": f"{self.url}/store/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": stored}}


def _project(name: str) -> dict[str, Any]:
    return {"id": "p", "name": name, "entity": {"id": "e", "name": "us"}}


def _resumable(name: str, run: ServedRun) -> dict[str, Any]:
    lines = run.files.get(HISTORY, {})
    begun = {"t": run.config.get("_wandb", {}).get("value", {}).get("t", {})}
    return {
        "id": name, "name": name, "displayName": run.name, "summaryMetrics": json.dumps(run.summary),
        "logLineCount": 0, "historyLineCount": len(lines), "eventsLineCount": 0,
        "historyTail": json.dumps([lines[max(lines)]] if lines else []), "eventsTail": "[]",
        "config": json.dumps(run.config), "tags": [], "notes": "", "wandbConfig": json.dumps(begun),
    }  # fmt: skip


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A server for the time of the block."""
    server = WandbServer()
    listener = _Listener(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up, as killed ones do."""


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content, place = self._content(), urlsplit(self.path).path
            if place == "/graphql":
                asked = json.loads(content)
                if not self._is_refused("graphql"):
                    self._reply(200, {"data": server.ask(asked["operationName"], asked.get("variables") or {})})
            elif place.endswith("/file_stream"):
                if not self._is_refused("file_stream"):
                    self._reply(200, server.stream(place.split("/")[-2], json.loads(content)))
            else:
                self._reply(200, {})  # the library's own measurements

        def do_PUT(self) -> None:
            content = self._content()
            if not self._is_refused(None):
                _, _, run, path = urlsplit(self.path).path.split("/", 3)
                server.store(run, path, content)
                self._reply(200, {})

        def _is_refused(self, door: Door | None) -> bool:
            """Answer with the fault that is asked for, if any; True when nothing more is to be said."""
            trouble = server.trouble
            if trouble is not None and trouble.at in (None, door):
                server.closing.wait(trouble.seconds)
                if trouble.status != 200:
                    self._fail(trouble.status)
                    return True
            given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            if door is not None and given != f"api:{KEY}":
                self._fail(401)
                return True
            return False

        def _fail(self, status: int) -> None:
            if status:
                self._reply(status, {"errors": [{"message": f"a scripted {status}"}]})
            else:
                self.close_connection = True

        def _content(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _reply(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def wait_until(holds: Any, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
