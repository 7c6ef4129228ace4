"""A stand-in for an MLflow server on loopback: the calls of its REST API that our tracker makes, kept in memory.

As the file store of the real one it appends whatever metric it is sent, so a metric that is sent twice is there twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class MlflowStandIn:
    """What the server has; `status` other than 200 is the answer to everything, `location` goes with a redirect."""

    def __init__(self) -> None:
        self.url = ""
        self.status, self.location = 200, ""
        self.experiments: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.authorizations: set[str | None] = set()

    def points(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of a metric of the only run, in the order in which they came."""
        (run,) = self.runs.values()
        return [(one["step"], one["value"]) for one in run["metrics"] if one["key"] == key]

    def answer(self, method: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.status != 200:
            return self.status, {"error_code": "INTERNAL_ERROR", "message": "scripted"}
        return getattr(self, f"_{method.replace('/', '_').replace('-', '_')}")(given)

    def _experiments_get_by_name(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if given["experiment_name"] not in self.experiments:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}
        return 200, {"experiment": {"experiment_id": given["experiment_name"]}}

    def _experiments_create(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.experiments.append(given["name"])
        return 200, {"experiment_id": given["name"]}

    def _runs_create(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        made = {"name": given["run_name"], "tags": given["tags"], "metrics": [], "params": [], "status": "RUNNING"}
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = made
        return 200, {"run": {"info": {"run_id": run_id}}}

    def _runs_search(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        found = []
        for run_id, run in self.runs.items():
            asked = [f"tags.`{tag['key']}` = '{tag['value']}'" for tag in run["tags"]]
            if given["filter"] in asked:
                latest = {one["key"]: one for one in sorted(run["metrics"], key=lambda one: one["step"])}
                found.append({"info": {"run_id": run_id}, "data": {"metrics": list(latest.values())}})
        return 200, {"runs": found} if found else {}

    def _runs_update(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.runs[given["run_id"]]["status"] = given["status"]
        return 200, {}

    def _runs_log_batch(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = self.runs[given["run_id"]]
        run["metrics"] += given.get("metrics", [])
        run["params"] += given.get("params", [])
        return 200, {}

    def _runs_set_tag(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.runs[given["run_id"]]["tags"].append({"key": given["key"], "value": given["value"]})
        return 200, {}


@contextmanager
def mlflow_server() -> Iterator[MlflowStandIn]:
    """A server for the time of the block."""
    served = MlflowStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(dict(parse_qsl(urlsplit(self.path).query)))

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, given: dict[str, Any]) -> None:
            served.authorizations.add(self.headers["Authorization"])
            status, body = served.answer(urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/"), given)
            content = json.dumps(body).encode()
            self.send_response(status)
            if served.location:
                self.send_header("Location", served.location + self.path)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
