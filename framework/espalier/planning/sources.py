"""The models that a job loads, looked at without loading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.config.stages import LoadStage, StageConfig
from espalier.models.classifier import classifier_config
from espalier.models.families import shape_of
from espalier.models.pretrained import find_model, read_config, tokenizer_key
from espalier.models.shape import ConfigDict


@dataclass(frozen=True)
class Source:
    """One published model.

    Attributes:
        identity: changes when the files do; part of the keys of all that is made from it.
    """

    folder: Path
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
                sources[stage.name] = _look(stage, outputs)
            except RefusedInput as refused:
                faults += refused.faults
    if faults:
        raise RefusedInput(faults)
    return sources


def _look(stage: LoadStage, outputs: Sequence[str] | None) -> Source:
    setting = f"stages.{stage.name}.model"
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
    return Source(folder, config, tokenizer_key(folder), repr([published, stamps]))
