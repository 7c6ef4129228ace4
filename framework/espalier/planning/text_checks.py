"""Check that models and tokenizers fit the words that their stages predict."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.jobs.data_sets import data_path, data_sets
from espalier.jobs.kind import KINDS
from espalier.models.architecture import is_masked_lm
from espalier.models.positions import known_positions
from espalier.models.pretrained import PretrainedTokenizer
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview


def text_faults(checked: Checked) -> Iterator[Fault]:
    """Yield faults of masked language models whose tokenizer has no mask token."""
    faults: dict[Fault, None] = {}
    for preview in _over_text(checked):
        tokenizer, origin = checked.sources[preview.parent].tokenizer, checked.plan[preview.parent].config
        if is_masked_lm(preview.config) and tokenizer is not None and tokenizer.mask_id is None:
            allowed = "a model whose tokenizer has a mask token, as a masked language model fills in masks"
            faults[Fault(f"stages.{origin.name}.model", getattr(origin, "model", None), allowed)] = None
    yield from faults


def text_remarks(checked: Checked) -> tuple[str, ...]:
    """Yield sentences about special tokens and text that may be unexpected; warnings begin with that word."""
    found = [*_beyond(checked), *_around(checked), *_not_its_own(checked)]
    for preview in checked.models.values():
        if own := KINDS[preview.stage.config.kind].call("remarks"):
            found += own(checked, preview)
    return tuple(dict.fromkeys(found))


def _over_text(checked: Checked) -> Iterator[StagePreview]:
    """Yield the stages that run a model on data whose targets are words."""
    for preview in checked.models.values():
        config = preview.stage.config
        reads = bool(KINDS[config.kind].formats) and bool(config.inputs())
        if reads and checked.data_of(config).targets == "words":
            yield preview


def _beyond(checked: Checked) -> Iterator[str]:
    for preview in _over_text(checked):
        origin, config = checked.models[preview.parent], preview.stage.config
        length, known = checked.data_of(config).sequence_tokens, known_positions(origin.config)
        if known < length:
            yield (
                f"warning: {data_path(config.data)}.sequence_tokens is {length}, and the model of stage "
                f"{origin.stage.name} was made for {known}: its rotary positions go on beyond that, to where it has "
                "never been trained"
            )


def _around(checked: Checked) -> Iterator[str]:
    text = [name for name, data in data_sets(checked.job).items() if data.around_documents is not None]
    for name, source in checked.sources.items():
        if text and source.tokenizer is not None and source.tokenizer.begin_ids:
            begin, end = _names(source.tokenizer)
            yield (
                f"documents and prompts begin with {begin}, documents end with {end}, as the tokenizer of stage {name} "
                f"has it ({data_path(text[0])}.special_tokens)"
            )


def _not_its_own(checked: Checked) -> Iterator[str]:
    """Yield models that read text with special tokens of another model's tokenizer."""
    for preview in _over_text(checked):
        own = checked.sources[preview.parent].tokenizer
        for setting, name in preview.stage.config.inputs().items():
            other = checked.sources[checked.models[name].parent].tokenizer
            if own and other and (own.begin_ids, own.end_ids) != (other.begin_ids, other.end_ids):
                yield (
                    f"warning: stages.{preview.stage.name}.{setting}: {name} reads documents between "
                    f"{' and '.join(_names(own))}, as {preview.parent} has them, and would have them between "
                    f"{' and '.join(_names(other))}"
                )


def _names(tokenizer: PretrainedTokenizer) -> tuple[str, str]:
    """The tokens before and after documents, in words."""
    begin, end = (" ".join(tokenizer.names(ids)) or "nothing" for ids in (tokenizer.begin_ids, tokenizer.end_ids))
    return begin, end
