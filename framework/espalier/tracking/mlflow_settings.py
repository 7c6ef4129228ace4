"""MLflow as a tracker: its settings in the job file, and where its back-end is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espalier.config.base import Config, Words
from espalier.jobs.tracker import TrackerKind

_Server = Annotated[
    str,
    Field(pattern=r"^https?://[^@\s/]+(/[^@\s]*)?$", max_length=1000),
    Words(
        "http://host:port or https://host of an MLflow server; name and password in MLFLOW_TRACKING_USERNAME and so on"
    ),
]


class MlflowConfig(Config):
    """Show the run in an MLflow server."""

    uri: _Server | None = None
    """Left out: MLFLOW_TRACKING_URI."""
    experiment: Annotated[str, Field(min_length=1, max_length=250)] = "espalier"


MLFLOW = TrackerKind(
    name="mlflow",
    title="MLflow",
    settings=MlflowConfig,
    backend="espalier.tracking.mlflow_tracker:MlflowTracker",
    secrets=("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
)
