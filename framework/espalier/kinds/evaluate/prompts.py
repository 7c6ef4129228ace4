"""Checks of prompts: their tokens, and the positions left for generation."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.sizes import SAMPLE_TOKENS
from espalier.jobs.dials import dial_path
from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.models.families import shape_of
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview


def prompt_faults(checked: Checked, config: EvaluateStage) -> Iterator[Fault]:
    """Yield faults of prompts without a token, or longer than a model's learned positions."""
    tokenizer = checked.sources[checked.models[config.name].parent].tokenizer
    for path, prompt in _prompts(checked, config):
        length = len(tokenizer.encode_prompt(prompt)) if tokenizer else len(prompt)
        if length == 0:
            yield Fault(path, prompt, "a text of at least one token, as the model has no begin token to go on from")
        for name, table in _tables(checked, config):
            if tokenizer and length >= table:
                wanted = f"at most {table - 1} tokens, as {name} has {table} positions, one of them for what it writes"
                yield Fault(path, prompt, wanted, given=f"has {length} tokens")


def remarks(checked: Checked, preview: StagePreview) -> Iterator[str]:
    """Yield sentences about prompts that leave fewer positions than a sample needs."""
    config = preview.stage.config
    assert isinstance(config, EvaluateStage)
    if checked.data_of(config).targets != "words":
        return
    tokenizer = checked.sources[preview.parent].tokenizer
    for path, prompt in _prompts(checked, config):
        for name, table in _tables(checked, config):
            room = table - len(tokenizer.encode_prompt(prompt)) if tokenizer else SAMPLE_TOKENS
            if room < SAMPLE_TOKENS:
                yield f"{path} leaves {name} room to write {room} tokens, not {SAMPLE_TOKENS}"


def _prompts(checked: Checked, config: EvaluateStage) -> Iterator[tuple[str, str]]:
    """The setting's path and the text of each prompt."""
    for number, prompt in enumerate(config.prompts):
        yield dial_path(f"stages.{config.name}.prompts[{number}]", checked.job), prompt


def _tables(checked: Checked, config: EvaluateStage) -> Iterator[tuple[str, int]]:
    """Name and number of learned positions of each model that gets prompts; rotary models are left out."""
    names = set(config.inputs().values())
    for name, preview in checked.models.items():
        if name in names and (table := shape_of(preview.config).positions):
            yield name, table
