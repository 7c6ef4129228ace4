"""Requests to an MLflow server by its REST API (2.0), without MLflow's library, which takes seconds to import."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from espalier.config.faults import Fault, RefusedInput

_SECONDS = 30.0  # of a request
_MAX_BYTES = 2**26


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error: it could lead the keys elsewhere, as they would be sent along."""

    def redirect_request(self, *given: Any, **named: Any) -> None:
        return None


_OPENER = build_opener(_NoRedirects)


class MlflowRefused(Exception):
    """The server's answer to a request that it did not carry out.

    Attributes:
        code: MLflow's name of the error, such as RESOURCE_DOES_NOT_EXIST; empty for answers of another shape.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"MLflow answers {status} {code}: {message}")
        self.code = code


class MlflowServer:
    """Requests to a server; the keys are sent in a header and kept nowhere.

    Raises:
        RefusedInput: no server is named.
    """

    def __init__(self, uri: str, secrets: Mapping[str, str]) -> None:
        if not uri.startswith(("http://", "https://")):
            allowed = "the http(s) address of an MLflow server, here or in MLFLOW_TRACKING_URI"
            raise RefusedInput([Fault("tracking.mlflow.uri", uri or None, allowed)])
        self._root = f"{uri.rstrip('/')}/api/2.0/mlflow"
        self._headers = {"Content-Type": "application/json"} | _authorization(secrets)

    def post(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a call.

        Raises:
            MlflowRefused: by the server.
            OSError: it was not reached.
        """
        return self._ask(Request(f"{self._root}/{method}", json.dumps(body).encode(), self._headers))

    def get(self, method: str, query: Mapping[str, str]) -> dict[str, Any]:
        """As `post`, for calls that only look."""
        return self._ask(Request(f"{self._root}/{method}?{urlencode(query)}", headers=self._headers))

    def _ask(self, request: Request) -> dict[str, Any]:
        try:
            with _OPENER.open(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read(_MAX_BYTES) or b"{}")
        except HTTPError as error:
            if error.code in range(300, 400):
                raise MlflowRefused(error.code, "", "a redirect, which would lead the keys elsewhere") from None
            told = _error_of(error.read(_MAX_BYTES))
            raise MlflowRefused(error.code, str(told.get("error_code", "")), str(told.get("message", ""))) from None


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _authorization(secrets: Mapping[str, str]) -> dict[str, str]:
    if token := secrets.get("MLFLOW_TRACKING_TOKEN", ""):
        return {"Authorization": f"Bearer {token}"}
    user, password = (secrets.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"} if user else {}
