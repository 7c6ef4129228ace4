"""Check a published model folder, and say which of its tensors a job reads, from headers alone. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.models.architecture import is_classifier
from espalier.models.classifier import (
    HeadChoice,
    classifier_config,
    fresh_parameters,
    keeps_head,
    language_model_config,
)
from espalier.models.families import family_of, is_causal, layout, shape_of
from espalier.models.families.config_checks import require_loadable
from espalier.models.families.naming import Match, has_masked_lm_head, match_names
from espalier.models.pretrained import read_config
from espalier.models.shape import ConfigDict
from espalier.models.stored_tensors import StoredTensor, same_values, stored_tensors

_MANY = 8


@dataclass(frozen=True)
class Published:
    """A model folder that was checked.

    Attributes:
        given: the folder's own config.json.
        config: of the model that the job makes of it.
        sources: parameter -> the stored tensor that it is read from.
        fresh: parameters of a new head, which start at random.
        left_out: stored tensors of heads that the job has no use for.
    """

    given: ConfigDict
    config: ConfigDict
    sources: Mapping[str, str]
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]


def check_published(folder: Path, *, outputs: Sequence[str] | None, head: HeadChoice, setting: str) -> Published:
    """Compare the tensors of a folder with those that its configuration asks for.

    Args:
        outputs: names of the classes of the job's labelled data, none for a regression; None for text.
        head: see `classifier_config`.
        setting: that names the folder.

    Raises:
        RefusedInput: a configuration or tensors that stock code would not load, or would load as another model.
    """
    given = read_config(folder, setting=setting)
    try:
        require_loadable(given)
        stored = stored_tensors(folder, setting=setting)
        config = _for_task(given, stored, outputs=outputs, head=head, setting=setting)
        shape_of(config)
    except RefusedInput as refused:
        raise RefusedInput(_named(fault, setting) for fault in refused.faults) from None
    match = match_names(stored, config)
    fresh: set[str] = set()
    if outputs is not None:
        fresh = fresh_parameters(match.sources, config, all_of_head=not keeps_head(given, head))
    faults = [*_misfits(match, stored, config, fresh), *_unequal(folder, match, stored)]
    if faults:
        more = Fault("...", f"{len(faults) - _MANY} more", "tensors as its config.json asks")
        shown = faults if len(faults) <= _MANY else [*faults[:_MANY], more]
        raise RefusedInput(replace(fault, path=f"{setting} ({folder}): {fault.path}") for fault in shown)
    sources = {name: old for name, old in match.sources.items() if name not in fresh}
    return Published(given, config, sources, tuple(sorted(fresh)), match.left_out)


def with_padding(published: Published, padding_id: int | None) -> Published:
    """With a `pad_token_id`, where the model is a decoder's classifier and its configuration has none: stock code finds
    a row's last token by it.

    Args:
        padding_id: what the model's tokenizer pads with.
    """
    config = published.config
    reads_last = is_causal(config) and is_classifier(config)
    if not reads_last or config.get("pad_token_id") is not None:
        return published
    return replace(published, config=config | {"pad_token_id": padding_id})


def _for_task(
    given: ConfigDict, stored: Collection[str], *, outputs: Sequence[str] | None, head: HeadChoice, setting: str
) -> ConfigDict:
    if outputs is None:
        return language_model_config(given, has_masked_lm_head=has_masked_lm_head(stored, family_of(given)))
    return classifier_config(given, names=outputs, head=head, setting=setting)


def _misfits(
    match: Match, stored: Mapping[str, StoredTensor], config: ConfigDict, fresh: Collection[str]
) -> Iterator[Fault]:
    for name, parameter in layout(config).items():
        old = match.sources.get(name)
        found = stored[old].shape if old is not None else None
        if name not in fresh and found != parameter.shape:
            yield Fault(old or name, found, f"shape {parameter.shape}, as its config.json asks")
    for name in match.unknown:
        yield Fault(name, stored[name].shape, "no tensor of this name, as its config.json asks")


def _unequal(folder: Path, match: Match, stored: Mapping[str, StoredTensor]) -> Iterator[Fault]:
    """Faults of stored tied weights that differ: some versions of stock code keep the head's, others drop them."""
    for name, parameter in match.copies.items():
        original = match.sources[parameter]
        if not same_values(folder, stored[name], stored[original]):
            given = f"differs from `{original}`, although its config.json ties them (tie_word_embeddings)"
            allowed = 'the same values; or "tie_word_embeddings": false in config.json, to keep the head'
            yield Fault(name, "other values", allowed, given=given)


def _named(fault: Fault, setting: str) -> Fault:
    return replace(fault, path=f"{setting}: {fault.path}") if fault.path.startswith("config.json") else fault
