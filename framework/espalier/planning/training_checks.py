"""What no stage that trains can do, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.labelled import LabelledConfig
from espalier.jobs.job import Job
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.architecture import is_language_model
from espalier.planning.preview import StagePreview, has_moments
from espalier.stages.plan import Plan


def training_faults(job: Job, plan: Plan, preview: StagePreview) -> Iterator[Fault]:
    """Faults of the settings that all such stages have."""
    config = preview.stage.config
    assert isinstance(config, TrainedStage)
    path = f"stages.{config.name}"
    yield from headless(job, preview)
    if config.optimizer_state == "keep" and not has_moments(plan, config.student):
        wanted = f"fresh, as the model of stage {config.student} was not trained here and has no optimizer's moments"
        yield Fault(f"{path}.optimizer_state", "keep", wanted)
    if config.optimizer.offload and not job.workers.gpus_each:
        yield Fault(f"{path}.optimizer.offload", True, "false on CPU workers: their memory is the host's")
    if config.optimizer.offload and config.zero_level == "none":
        yield Fault(f"{path}.optimizer.offload", True, "with zero_level optimizer, gradients or parameters")
    if config.validation is not None and not isinstance(job.data_of(config), LabelledConfig):
        yield Fault(f"{path}.validation", "settings", "leave it out over text; use an evaluate stage")


def headless(job: Job, preview: StagePreview) -> Iterator[Fault]:
    """The fault of a bare encoder over text: nothing says words in it."""
    config = preview.stage.config
    if not isinstance(job.data_of(config), LabelledConfig) and not is_language_model(preview.config):
        allowed = "a language model, causal or masked; a bare encoder learns from labelled data (data.task)"
        yield Fault(f"stages.{config.name}", preview.config["model_type"], allowed)
