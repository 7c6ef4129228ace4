"""Types of settings for files, folders, models and stores.

Relative paths are resolved against the folder of the job file, which `read_job` passes as validation context. `~` and
`$HOME` are not expanded, as they may differ on workers.
"""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from espalier.config.base import Words

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def _resolved(text: str, info: ValidationInfo) -> str:
    if text.startswith("~") or "$" in text:
        raise ValueError("a path in full; `~` and variables are not expanded, they differ from worker to worker")
    if not text.isprintable():
        raise ValueError("a path without control characters")
    folder = (info.context or {}).get("folder")
    return text if folder is None else os.path.normpath(os.path.join(folder, text))


def _model(text: str, info: ValidationInfo) -> str:
    path = _resolved(text, info)
    if text.startswith((".", "/")):
        return path
    if _HUB_NAME.fullmatch(text):
        return text
    raise ValueError("a hub name like owner/model, an absolute folder, or a folder beside the job file as ./folder")


def _hub_name(text: str) -> str:
    if not _HUB_NAME.fullmatch(text):
        raise ValueError("a hub name like owner/name")
    return text


def _folder(text: str, info: ValidationInfo) -> str:
    path = _resolved(text, info)
    if text.startswith(("./", "../")):
        text = path
    if not text.startswith("/"):
        raise ValueError("an absolute folder, or ./folder beside the job file; workers start in folders of their own")
    if ".." in text.split("/"):
        raise ValueError("an absolute folder without `..`")
    return os.path.normpath(text)


_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#:@][^\s?#@]*")


STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hdfs", "webhdfs", "sftp", "ssh")
"""URL schemes of persistent stores."""


def _place(text: str, info: ValidationInfo) -> str:
    if _URL.fullmatch(text) and ".." not in text.split("/"):
        scheme = text.partition("://")[0]
        if scheme not in STORES:
            raise ValueError(
                f"an absolute folder, or a store that keeps what is written: s3://, gs://, az:// or abfs://; "
                f"{scheme}:// is none that is known to"
            )
        return text
    if "://" in text:
        raise ValueError(
            "a URL such as s3://bucket/runs without user, password or query; keys come from the environment"
        )
    return _folder(text, info)


def _resume(text: str, info: ValidationInfo) -> str:
    if text in ("auto", "never"):
        return text
    try:
        return _folder(text, info)
    except ValueError as error:
        raise ValueError(f"auto, never, or the folder of a checkpoint: {error}") from None


_Path = Annotated[str, Field(min_length=1, max_length=1024)]

IS_FILE = object()
"""Mark of a setting that names a file; the contents of a stage's files are part of its key."""

InputFile = Annotated[_Path, AfterValidator(_resolved), IS_FILE, Words("the path of a file; * ? ** stand for many")]
ModelSource = Annotated[_Path, AfterValidator(_model), Words("a hub name or a folder")]
HubName = Annotated[_Path, AfterValidator(_hub_name), Words("a hub name like owner/name")]
Folder = Annotated[_Path, AfterValidator(_folder), Words("an absolute folder")]
Place = Annotated[_Path, AfterValidator(_place), Words("an absolute folder, or a URL such as s3://bucket/runs")]
Resume = Annotated[_Path, AfterValidator(_resume), Words("auto, never, or the folder of a checkpoint")]
