"""TensorBoard as a tracker: its settings in the job file, and where its back-end is."""

from __future__ import annotations

from espalier.config.base import Config
from espalier.jobs.tracker import TrackerKind


class TensorboardConfig(Config):
    """Write an event file into the folder `tensorboard` of the run: `tensorboard --logdir <storage>` shows all runs."""


TENSORBOARD = TrackerKind(
    name="tensorboard",
    title="TensorBoard",
    settings=TensorboardConfig,
    backend="espalier.tracking.tensorboard_tracker:TensorboardTracker",
)
