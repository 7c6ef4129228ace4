"""Recognise access tokens in text: a job that holds one is refused, and logs are kept without them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.schema import resolved

HIDDEN = b"***"

_SHORTEST = 8
_MAX_BYTES = 2**16
_NAMES = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?(_ID)?$")
_FORMS = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{30,}|wandb_v1_[A-Za-z0-9_]{30,}|(?:AKIA|ASIA)[0-9A-Z]{16}\b|gh[opsur]_[A-Za-z0-9]{36,}"
    rb"|github_pat_[A-Za-z0-9_]{40,}|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{20,}|sk-[A-Za-z0-9_-]{32,}"
    rb"|eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"
)


def secret_values(environment: Mapping[str, str]) -> tuple[bytes, ...]:
    """The values of variables whose names say that they are secret, and Ray's token, longest first."""
    found = {value.encode() for name, value in environment.items() if _NAMES.search(name)}
    token = Path(environment.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    try:
        with token.open("rb") as file:
            found.add(file.read(_MAX_BYTES).strip())
    except OSError:
        pass
    return tuple(sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True))


def without_secrets(text: bytes, values: tuple[bytes, ...]) -> bytes:
    """The text with `***` in the place of every one of the values, and of whatever has the form of a known token."""
    for value in values:
        text = text.replace(value, HIDDEN)
    return _FORMS.sub(HIDDEN, text)


def refuse_secrets(job: Job, environment: Mapping[str, str] | None = None) -> None:
    """Refuse a job with a token in one of its settings, because the job is kept in the storage, for good.

    Args:
        environment: whose secrets are looked for; this process's, if left out.

    Raises:
        RefusedInput: naming the settings, without their values.
    """
    values = secret_values(os.environ if environment is None else environment)
    allowed = "no token: workers find theirs in a file or in the environment that the cluster's nodes were started with"
    faults = [
        Fault(path, None, allowed, given="holds an access token")
        for path, text in _texts(resolved(job), "")
        if without_secrets(text.encode(), values) != text.encode()
    ]
    if faults:
        raise RefusedInput(faults)


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{number}]")
