"""Checks of all training stages, whatever their kind."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.jobs.job import Job
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.architecture import is_language_model
from espalier.models.families import layout
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview, moments_of


def training_faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """Yield faults of the settings that all training stages share."""
    job, config = checked.job, preview.stage.config
    assert isinstance(config, TrainedStage)
    path = f"stages.{config.name}"
    yield from headless(job, preview)
    if config.optimizer_state == "keep":
        yield from _missing_moments(checked, config, preview)
    if config.optimizer.offload and not job.workers.gpus_each:
        yield Fault(f"{path}.optimizer.offload", True, "false on CPU workers: their memory is the host's")
    if config.optimizer.offload and config.zero_level == "none":
        yield Fault(f"{path}.optimizer.offload", True, "with zero_level optimizer, gradients or parameters")
    if config.validation is not None and job.data_of(config).targets == "words":
        yield Fault(f"{path}.validation", "settings", "leave it out over text; use an evaluate stage")


def _missing_moments(checked: Checked, config: TrainedStage, preview: StagePreview) -> Iterator[Fault]:
    moments = moments_of(checked.plan, config.student, checked.models)
    trained = preview.trained.names if preview.trained else layout(preview.config).keys()
    if not trained:
        wanted = "fresh, as the stage trains nothing of the model: what it adds begins anew"
        yield Fault(f"stages.{config.name}.optimizer_state", "keep", wanted)
    elif not moments:
        reason = "it was not trained here, or only in part before it grew"
        wanted = f"fresh, as the model of stage {config.student} has no optimizer's moments: {reason}"
        yield Fault(f"stages.{config.name}.optimizer_state", "keep", wanted)
    elif missing := sorted(trained - moments):
        wanted = f"fresh, as stage {config.student} trained a part that {missing[0]} is not in"
        yield Fault(f"stages.{config.name}.optimizer_state", "keep", wanted)


def headless(job: Job, preview: StagePreview) -> Iterator[Fault]:
    """Yield the fault of an encoder without a language-model head where targets are words."""
    config = preview.stage.config
    if job.data_of(config).targets == "words" and not is_language_model(preview.config):
        allowed = "a language model, causal or masked; a bare encoder learns from labelled data (data.task)"
        yield Fault(f"stages.{config.name}", preview.config["model_type"], allowed)
