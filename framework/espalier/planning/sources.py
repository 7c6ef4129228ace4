"""The models that a job loads or makes, looked at without loading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.config.faults import Fault, RefusedInput
from espalier.config.stages import LoadStage, StageConfig
from espalier.models.classifier import classifier_config
from espalier.models.families import shape_of
from espalier.models.pretrained import find_model, read_config, tokenizer_key
from espalier.models.scratch import scratch_config, tokenizer_figures
from espalier.models.shape import ConfigDict


@dataclass(frozen=True)
class Source:
    """One model that the job begins with.

    Attributes:
        identity: changes when the files do; part of the keys of all that is made from it.
    """

    config: ConfigDict
    tokenizer: str
    identity: str


def find_sources(stages: tuple[StageConfig, ...], *, outputs: Sequence[str] | None = None) -> dict[str, Source]:
    """The source of every `load` stage, by the stage's name.

    Args:
        outputs: names of the classes of the job's labelled data, none for a regression; None for text.

    Raises:
        RefusedInput: missing folders, unknown architectures, pickled weights; all models at once.
    """
    sources: dict[str, Source] = {}
    faults: list[Fault] = []
    for stage in stages:
        if isinstance(stage, LoadStage):
            try:
                sources[stage.name] = _scratch(stage) if stage.from_scratch else _look(stage, outputs)
            except RefusedInput as refused:
                faults += refused.faults
    if faults:
        raise RefusedInput(faults)
    return sources


def _scratch(stage: LoadStage) -> Source:
    """A tokenizer that is yet to be made counts as the same wherever its settings are."""
    settings, setting = stage.from_scratch, f"stages.{stage.name}.from_scratch.tokenizer"
    assert settings is not None
    if settings.train_tokenizer is not None:
        vocabulary = settings.train_tokenizer.vocabulary
        config = scratch_config(settings, vocabulary=vocabulary, eos_id=0, pad_id=1)
        shape_of(config)
        return Source(config, f"made here, {vocabulary}", repr(config))
    assert settings.tokenizer is not None
    folder = find_model(settings.tokenizer, setting=setting)
    found, key = tokenizer_figures(folder, setting=setting), tokenizer_key(folder)
    if settings.family == "bert" and found.mask_id is None:
        raise RefusedInput([Fault(setting, str(folder), "a tokenizer with a mask token, as a BERT fills in masks")])
    config = scratch_config(settings, vocabulary=found.vocabulary, eos_id=found.eos_id, pad_id=found.pad_id)
    shape_of(config)
    return Source(config, key, repr([config, key]))


def _look(stage: LoadStage, outputs: Sequence[str] | None) -> Source:
    setting = f"stages.{stage.name}.model"
    assert stage.model is not None
    folder = find_model(stage.model, setting=setting, revision=stage.revision)
    published = read_config(folder, setting=setting)
    shape_of(published)
    config = published
    if outputs is not None:
        config = classifier_config(published, names=outputs, head=stage.head, setting=setting)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        given = f"{folder} with {pickled[0]}" if pickled else str(folder)
        allowed = "a folder with *.safetensors; pickled weights can run code, convert them with `save_pretrained`"
        raise RefusedInput([Fault(setting, given, allowed)])
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    return Source(config, tokenizer_key(folder), repr([published, stamps]))
