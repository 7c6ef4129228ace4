"""The models that a job loads or makes, looked at without loading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.config.data import SpecialTokens
from espalier.config.faults import Fault, RefusedInput
from espalier.config.stages import LoadStage, StageConfig
from espalier.models.families import shape_of
from espalier.models.model_files import files_key, read_model_files
from espalier.models.pretrained import PretrainedTokenizer, find_model, open_tokenizer
from espalier.models.published import look_at, with_padding
from espalier.models.scratch import scratch_config
from espalier.models.shape import ConfigDict
from espalier.models.stored_tensors import INDEX, weight_files


@dataclass(frozen=True)
class Source:
    """One model that the job begins with.

    Attributes:
        tokenizer: None while it is yet to be made of the training text.
        identity: changes when the files do; part of the keys of all that is made from it.
    """

    config: ConfigDict
    tokenizer: PretrainedTokenizer | None
    identity: str


def find_sources(
    stages: tuple[StageConfig, ...], *, outputs: Sequence[str] | None = None, special_tokens: SpecialTokens = "own"
) -> dict[str, Source]:
    """The source of every `load` stage, by the stage's name.

    Args:
        outputs: names of the classes of the job's labelled data, none for a regression; None for text.
        special_tokens: of text, what stands around each document.

    Raises:
        RefusedInput: missing folders, unknown architectures, pickled weights; all models at once.
    """
    sources: dict[str, Source] = {}
    faults: list[Fault] = []
    for stage in stages:
        if isinstance(stage, LoadStage):
            try:
                sources[stage.name] = (
                    _scratch(stage, special_tokens) if stage.from_scratch else _look(stage, outputs, special_tokens)
                )
            except RefusedInput as refused:
                faults += refused.faults
    if faults:
        raise RefusedInput(faults)
    return sources


def _scratch(stage: LoadStage, special_tokens: SpecialTokens) -> Source:
    settings, setting = stage.from_scratch, f"stages.{stage.name}.from_scratch.tokenizer"
    assert settings is not None
    if settings.train_tokenizer is not None:
        vocabulary = settings.train_tokenizer.vocabulary
        config = scratch_config(settings, vocabulary=vocabulary, eos_id=0, pad_id=1)
        shape_of(config)
        return Source(config, None, repr(config))
    assert settings.tokenizer is not None
    folder = find_model(settings.tokenizer, setting=setting)
    files = read_model_files(folder, setting=setting)
    found = open_tokenizer(files, folder=str(folder), setting=setting, special_tokens=special_tokens)
    if settings.family == "bert" and found.mask_id is None:
        raise RefusedInput([Fault(setting, str(folder), "a tokenizer with a mask token, as a BERT fills in masks")])
    config = scratch_config(settings, vocabulary=found.vocabulary, eos_id=found.eos_id, pad_id=found.pad_id)
    shape_of(config)
    return Source(config, found, repr([config, files_key(files)]))


def _look(stage: LoadStage, outputs: Sequence[str] | None, special_tokens: SpecialTokens) -> Source:
    setting = f"stages.{stage.name}.model"
    assert stage.model is not None
    folder = find_model(stage.model, setting=setting, revision=stage.revision)
    published = look_at(folder, outputs=outputs, head=stage.head, setting=setting)
    files = read_model_files(folder, setting=setting)
    tokenizer = open_tokenizer(files, folder=str(folder), setting=setting, special_tokens=special_tokens)
    published = with_padding(published, tokenizer.padding_id)
    parts = [*weight_files(folder, setting=setting), *(path.name for path in folder.glob(INDEX))]
    stats = [(folder / name).stat() for name in parts]
    stamps = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(parts, stats, strict=True)]
    rows = shape_of(published.config).vocabulary
    if tokenizer.vocabulary > rows:
        given = f"names {folder}, whose tokenizer has ids up to {tokenizer.vocabulary - 1}"
        allowed = f"a model with a row for each token of its tokenizer: its config.json says vocab_size {rows}"
        raise RefusedInput([Fault(setting, str(folder), allowed, given=given)])
    return Source(published.config, tokenizer, repr([published.given, stamps, files_key(files)]))
