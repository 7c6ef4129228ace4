"""Declarations of trackers: back-ends such as W&B that mirror a run's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import create_model

from espalier.config.base import Config
from espalier.config.plugins import Registry


@dataclass(frozen=True)
class TrackerKind:
    """One tracker.

    Attributes:
        name: its key under `tracking` in the job file.
        title: its name in messages.
        settings: of the tracker in the job file.
        backend: `module:function` of (run, settings, report) -> Tracker, see `espalier.tracking.tracker`. It is
            imported in the process that drives a run, and nowhere else.
        default: settings for jobs that do not name the tracker; None leaves it out.
        secrets: environment variables that the tracker gets and workers do not.
        look: `module:function` of the settings -> `TrackerAnswer`, called before the run starts; empty: none.
        sync: settings that replace the job's when `espalier sync` sends a run.
    """

    name: str
    title: str
    settings: type[Config]
    backend: str
    default: Config | None = None
    secrets: tuple[str, ...] = ()
    look: str = ""
    sync: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackerAnswer:
    """Whether a tracker could show a run, as far as that can be told in some seconds.

    Attributes:
        found: in words, for people; never a secret.
        is_good: it will, or it is not asked to.
        refused: what is allowed instead, where the settings demand what is not there; the run does not start then.
    """

    found: str
    is_good: bool = True
    refused: str = ""


TRACKERS: Registry[TrackerKind] = Registry(
    "espalier.trackers",
    TrackerKind,
    {
        "wandb": "espalier.tracking.wandb_settings:WANDB",
        "mlflow": "espalier.tracking.mlflow_settings:MLFLOW",
        "tensorboard": "espalier.tracking.tensorboard_settings:TENSORBOARD",
    },
)
"""Every tracker that is installed."""


def tracking_settings() -> type[Config]:
    """Make the class of the job's `tracking` settings, with a field for each installed tracker."""
    settings: dict[str, Any] = {kind.name: _field(kind) for kind in TRACKERS.values()}
    words = "Where a run can be watched besides its own record on disk."
    return create_model("TrackingConfig", __base__=Config, __doc__=words, **settings)


def _field(kind: TrackerKind) -> tuple[Any, Config | None]:
    return (kind.settings if kind.default is not None else kind.settings | None), kind.default
