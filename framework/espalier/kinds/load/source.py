"""Find the configuration and tokenizer of the model of a stage `load`, for planning."""

from __future__ import annotations

from espalier.config.faults import Fault, RefusedInput
from espalier.kinds.load.kind import LoadStage
from espalier.models.architecture import is_masked_lm
from espalier.models.families import shape_of
from espalier.models.model_files import files_key, read_model_files
from espalier.models.pretrained import find_model, open_tokenizer
from espalier.models.published import check_published, with_padding
from espalier.models.scratch import scratch_config
from espalier.models.stored_tensors import INDEX, weight_files
from espalier.planning.sources import Source, Use


def find(stage: LoadStage, use: Use) -> Source:
    """See `StageKind.source`.

    Raises:
        RefusedInput: a missing folder, an unknown architecture, pickled weights.
    """
    return _scratch(stage, use) if stage.from_scratch else _look(stage, use)


def _scratch(stage: LoadStage, use: Use) -> Source:
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
    found = open_tokenizer(files, folder=str(folder), setting=setting, special_tokens=use.special_tokens)
    config = scratch_config(settings, vocabulary=found.vocabulary, eos_id=found.eos_id, pad_id=found.pad_id)
    shape_of(config)
    if is_masked_lm(config) and found.mask_id is None:
        allowed = f"a tokenizer with a mask token, as a {settings.family} fills in masks"
        raise RefusedInput([Fault(setting, str(folder), allowed)])
    return Source(config, found, repr([config, files_key(files)]))


def _look(stage: LoadStage, use: Use) -> Source:
    setting = f"stages.{stage.name}.model"
    assert stage.model is not None
    folder = find_model(stage.model, setting=setting, revision=stage.revision)
    published = check_published(folder, outputs=use.outputs, head=stage.head, setting=setting)
    files = read_model_files(folder, setting=setting)
    tokenizer = open_tokenizer(files, folder=str(folder), setting=setting, special_tokens=use.special_tokens)
    published = with_padding(published, tokenizer.padding_id)
    parts = [*weight_files(folder, setting=setting), *(path.name for path in folder.glob(INDEX))]
    stats = [(folder / name).stat() for name in parts]
    stamps = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(parts, stats, strict=True)]
    rows = shape_of(published.config).vocabulary
    if tokenizer.vocabulary > rows:
        given = f"names {folder}, whose tokenizer has ids up to {tokenizer.vocabulary - 1}"
        allowed = f"a model with a row for each token of its tokenizer: its config.json says vocab_size {rows}"
        raise RefusedInput([Fault(setting, str(folder), allowed, given=given)])
    identity = repr([published.given, stamps, files_key(files)])
    return Source(published.config, tokenizer, identity, sum(stat.st_size for stat in stats))
