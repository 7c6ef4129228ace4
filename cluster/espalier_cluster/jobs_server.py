"""The Jobs server of a Ray cluster, over its documented REST interface.

Ray's own client is not used: it has no time limits, and `RAY_ADDRESS` overrides the address that it is given (2.60).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import requests

from espalier.config.faults import Fault, RefusedInput

_ANSWER_SECONDS = 20.0
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_MOST_LISTED = 10_000
_OF_THE_CLUSTER = ("_AutoscalingCoordinatorActor",)
"""Detached actors that the first run of Ray Train on a cluster starts for all that follow (2.60)."""


@dataclass(frozen=True)
class JobState:
    """What a Jobs server says of a job.

    Attributes:
        message: a sentence of Ray's, for people.
        ray_job: id under which Ray lists the driver's actors and placement groups; empty before the driver joined.
    """

    status: Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    message: str = ""
    exit_code: int | None = None
    ray_job: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED


class ServerAway(OSError):
    """The Jobs server did not answer, or answered with an error of its own. Asking again may help."""


class JobsServer(Protocol):
    """Starts and ends jobs on one cluster. Every method may raise `ServerAway`.

    Attributes:
        session: the cluster's name for itself; a head that is started again has another.
        ray_version: of the cluster.
        address: as the user gave it.
    """

    session: str
    ray_version: str
    address: str

    def start(self, job: str, entrypoint: str, metadata: dict[str, str]) -> None:
        """Start a job under an id; does nothing when the cluster knows a job of that id."""

    def look(self, job: str) -> JobState | None:
        """The state of a job; None when the cluster does not know it."""

    def log(self, job: str) -> str:
        """What the job has printed; empty when the cluster has nothing (any more)."""

    def stop(self, job: str) -> None:
        """Ask a job to end: SIGTERM, and after 3 seconds SIGKILL. Does nothing to a job that has ended."""

    def remove(self, job: str) -> None:
        """Remove a job that has ended from the list."""

    def leftovers(self, ray_job: str) -> list[str]:
        """What is alive of a job on any node: its actors and placement groups, in words."""


class RayJobsServer:
    """A `JobsServer` at a URL."""

    def __init__(self, url: str, *, address: str, token: str | None) -> None:
        """Store the arguments and ask the server for its version.

        Args:
            token: sent with every request; None: the cluster requires none.

        Raises:
            RefusedInput: no Jobs server is there, or it does not take the token.
        """
        self.address = address
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        told = self._told_version()
        self.session = str(told.get("session_name", ""))[:255]
        self.ray_version = str(told.get("ray_version", ""))[:64]

    def start(self, job: str, entrypoint: str, metadata: dict[str, str]) -> None:
        answer = self._ask("POST", "/api/jobs/", json=start_body(job, entrypoint, metadata))
        if answer.status_code != 200 and self.look(job) is None:
            raise self._failed(answer)

    def look(self, job: str) -> JobState | None:
        answer = self._ask("GET", f"/api/jobs/{job}")
        if answer.status_code == 404:
            return None
        told = self._read(answer)
        message, code = str(told.get("message") or ""), told.get("driver_exit_code")
        return JobState(told["status"], message, code if isinstance(code, int) else None, told.get("job_id") or "")

    def log(self, job: str) -> str:
        answer = self._ask("GET", f"/api/jobs/{job}/logs")
        return str(self._read(answer).get("logs") or "") if answer.status_code == 200 else ""

    def stop(self, job: str) -> None:
        self._ask("POST", f"/api/jobs/{job}/stop")

    def remove(self, job: str) -> None:
        self._ask("DELETE", f"/api/jobs/{job}")

    def leftovers(self, ray_job: str) -> list[str]:
        actors = self._list("actors", filter_keys="job_id", filter_predicates="=", filter_values=ray_job)
        places = self._list("placement_groups")
        return [
            f"actor {one.get('class_name')} on node {one.get('node_id')}"
            for one in actors
            if one["state"] != "DEAD" and one.get("class_name") not in _OF_THE_CLUSTER
        ] + [
            f"placement group {one.get('placement_group_id')}"
            for one in places
            if one.get("creator_job_id") == ray_job and one["state"] != "REMOVED"
        ]

    def _list(self, what: str, **filters: str) -> list[dict[str, Any]]:
        answer = self._ask("GET", f"/api/v0/{what}", params={"limit": _MOST_LISTED, **filters})
        return self._read(answer)["data"]["result"]["result"]

    def _told_version(self) -> dict[str, Any]:
        try:
            answer = self._ask("GET", "/api/version")
        except ServerAway as away:
            raise no_server(self.address, f"nothing answers at {self._url} ({away})") from None
        if answer.status_code in (401, 403):
            text = "a cluster that knows your token; it turned away the one of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH"
            raise RefusedInput([Fault("--address", self.address, f"{text} or ~/.ray/auth_token")])
        try:
            return self._read(answer)
        except ServerAway as other:
            raise no_server(self.address, str(other)) from None

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """One request; redirects are not followed, because they could lead the token elsewhere."""
        try:
            return requests.request(
                method, self._url + path, headers=self._headers, timeout=_ANSWER_SECONDS, allow_redirects=False, **more
            )
        except requests.RequestException as error:
            raise ServerAway(f"the cluster at {self.address} does not answer ({_cause(error)})") from None

    def _read(self, answer: requests.Response) -> dict[str, Any]:
        try:
            told = answer.json() if answer.status_code == 200 else None
        except requests.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise self._failed(answer)
        return told

    def _failed(self, answer: requests.Response) -> ServerAway:
        last = answer.text.strip().splitlines()[-1:] or [""]
        return ServerAway(f"the cluster at {self.address} answers with status {answer.status_code} ({last[0][:200]})")


def start_body(job: str, entrypoint: str, metadata: dict[str, str]) -> dict[str, Any]:
    """The body of the request that starts a job. It ships no files and no environment."""
    return {"submission_id": job, "entrypoint": entrypoint, "metadata": metadata, "runtime_env": {}}


def asks_for_token(url: str, *, address: str) -> bool:
    """Whether a Jobs server turns away a request that carries no token.

    Raises:
        RefusedInput: nothing answers there, or no Jobs server.
    """
    try:
        answer = requests.get(f"{url}/api/version", timeout=_ANSWER_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise no_server(address, f"nothing answers at {url} ({_cause(error)})") from None
    if answer.status_code not in (200, 401, 403):
        raise no_server(address, f"what answers at {url} is none (status {answer.status_code})")
    return answer.status_code != 200


def no_server(address: str, why: str) -> RefusedInput:
    """The error for a cluster without a Jobs server that can be reached from here."""
    allowed = (
        f"a cluster with a Jobs server, which a head started by `ray start --head` has where ray[default] is: {why}"
    )
    return RefusedInput([Fault("--address", address, allowed)])


def _cause(error: requests.RequestException) -> str:
    inner = getattr(error.args[0] if error.args else None, "reason", None)
    return type(inner or error).__name__
