"""What a model and its tokenizer cannot do with the job's text and prompts: told before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from espalier.config.data import DataConfig
from espalier.config.faults import Fault
from espalier.config.growth import GrowStage
from espalier.config.job import Job
from espalier.config.sizes import SAMPLE_TOKENS
from espalier.config.stages import EvaluateStage, LoadStage, PruneStage, TrainedStage
from espalier.models.architecture import is_masked_lm
from espalier.models.families import shape_of
from espalier.models.positions import known_positions
from espalier.models.pretrained import PretrainedTokenizer
from espalier.planning.preview import StagePreview
from espalier.planning.sources import Source


def text_faults(job: Job, previews: Sequence[StagePreview], sources: Mapping[str, Source]) -> Iterator[Fault]:
    """Masked models without a mask; prompts without a token, or too long for a table of positions."""
    if not isinstance(job.data, DataConfig):
        return
    yield from dict.fromkeys(_no_mask(previews, sources))
    for path, prompt, stage in _prompts(job, previews):
        tokenizer = sources[stage.parent].tokenizer
        length = len(tokenizer.encode_prompt(prompt)) if tokenizer else len(prompt)
        if length == 0:
            yield Fault(path, prompt, "a text of at least one token, as the model has no begin token to go on from")
        for name, table in _tables(stage, previews):
            if tokenizer and length >= table:
                wanted = f"at most {table - 1} tokens, as {name} has {table} positions, one of them for what it writes"
                yield Fault(path, prompt, wanted, given=f"has {length} tokens")


def _no_mask(previews: Sequence[StagePreview], sources: Mapping[str, Source]) -> Iterator[Fault]:
    loaded = {preview.stage.name: preview.stage.config for preview in previews}
    for preview in previews:
        tokenizer, origin = sources[preview.parent].tokenizer, loaded[preview.parent]
        asked = isinstance(preview.stage.config, TrainedStage | EvaluateStage | GrowStage | PruneStage)
        if asked and is_masked_lm(preview.config) and tokenizer is not None and tokenizer.mask_id is None:
            assert isinstance(origin, LoadStage)
            allowed = "a model whose tokenizer has a mask token, as a masked language model fills in masks"
            yield Fault(f"stages.{origin.name}.model", origin.model, allowed)


def text_remarks(job: Job, previews: Sequence[StagePreview], sources: Mapping[str, Source]) -> tuple[str, ...]:
    """A sentence each on what a person may not expect of the text; warnings say so."""
    if not isinstance(job.data, DataConfig):
        return ()
    found = [*_beyond(job, previews), *_around(job, sources), *_not_its_own(previews, sources)]
    found += _little_room(job, previews, sources)
    return tuple(dict.fromkeys(found))


def _beyond(job: Job, previews: Sequence[StagePreview]) -> Iterator[str]:
    length = job.data.sequence_tokens
    for preview in previews:
        if isinstance(preview.stage.config, LoadStage) and (known := known_positions(preview.config)) < length:
            yield (
                f"warning: data.sequence_tokens is {length}, and the model of stage {preview.stage.name} was made for "
                f"{known}: its rotary positions go on beyond that, to where it has never been trained"
            )


def _around(job: Job, sources: Mapping[str, Source]) -> Iterator[str]:
    for name, source in sources.items():
        if source.tokenizer is not None and source.tokenizer.begin_ids:
            begin, end = _names(source.tokenizer)
            yield (
                f"documents and prompts begin with {begin}, documents end with {end}, as the tokenizer of stage {name} "
                "has it (data.special_tokens)"
            )


def _not_its_own(previews: Sequence[StagePreview], sources: Mapping[str, Source]) -> Iterator[str]:
    """Models that read the text of another's line, which begins or ends documents otherwise."""
    parents = {preview.stage.name: preview.parent for preview in previews}
    for preview in previews:
        own = sources[preview.parent].tokenizer
        for setting, name in preview.stage.config.inputs().items():
            other = sources[parents[name]].tokenizer
            if own and other and (own.begin_ids, own.end_ids) != (other.begin_ids, other.end_ids):
                yield (
                    f"warning: stages.{preview.stage.name}.{setting}: {name} reads documents between "
                    f"{' and '.join(_names(own))}, as {preview.parent} has them, and would have them between "
                    f"{' and '.join(_names(other))}"
                )


def _names(tokenizer: PretrainedTokenizer) -> tuple[str, str]:
    """What documents begin and end with."""
    begin, end = (" ".join(tokenizer.names(ids)) or "nothing" for ids in (tokenizer.begin_ids, tokenizer.end_ids))
    return begin, end


def _little_room(job: Job, previews: Sequence[StagePreview], sources: Mapping[str, Source]) -> Iterator[str]:
    for path, prompt, stage in _prompts(job, previews):
        tokenizer = sources[stage.parent].tokenizer
        for name, table in _tables(stage, previews):
            room = table - len(tokenizer.encode_prompt(prompt)) if tokenizer else SAMPLE_TOKENS
            if room < SAMPLE_TOKENS:
                yield f"{path} leaves {name} room to write {room} tokens, not {SAMPLE_TOKENS}"


def _prompts(job: Job, previews: Sequence[StagePreview]) -> Iterator[tuple[str, str, StagePreview]]:
    """Setting, prompt, and the stage that puts it, for every prompt over text."""
    for stage in previews:
        config = stage.stage.config
        if isinstance(config, EvaluateStage) and isinstance(job.data, DataConfig):
            place = f"stages.{config.name}" if job.recipe is None else "recipe"
            for number, prompt in enumerate(config.prompts):
                yield f"{place}.prompts[{number}]", prompt, stage


def _tables(stage: StagePreview, previews: Sequence[StagePreview]) -> Iterator[tuple[str, int]]:
    """Name and learned positions of each model that a stage puts its prompts to; those with rotary ones left out."""
    names = stage.stage.inputs
    for preview in previews:
        if preview.stage.name in names and (table := shape_of(preview.config).positions):
            yield preview.stage.name, table
