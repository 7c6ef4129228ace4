"""From a published model to one with the head that a job's data asks for. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from espalier.config.faults import Fault, RefusedInput
from espalier.models.architecture import architecture, default_architecture
from espalier.models.shape import ConfigDict

_HEADS = (
    "ForSequenceClassification",
    "ForCausalLM",
    "ForMaskedLM",
    "LMHeadModel",
    "DoubleHeadsModel",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForPreTraining",
    "ForNextSentencePrediction",
    "ForMultipleChoice",
    "Model",
)
_MASKED_LM = "BertForMaskedLM"
_OF_THE_HEAD = ("classifier.", "score.", "bert.pooler.")
HeadChoice = Literal["auto", "new"]


def language_model_config(config: ConfigDict, *, has_masked_lm_head: bool) -> ConfigDict:
    """The configuration of the language model that a published folder holds, whatever head it was published with.

    Args:
        has_masked_lm_head: whether the folder holds a head that fills in masks; without one an encoder stays as it is.
    """
    stock, default = architecture(config), default_architecture(config)
    if not _is_known(stock, config):
        return config
    if config["model_type"] != "bert":
        return config | {"architectures": [default]}
    if stock == default and config.get("architectures"):
        return config
    if has_masked_lm_head:
        return config | {"architectures": [_MASKED_LM]}
    return config if stock.endswith(_HEADS[0]) else config | {"architectures": [default]}


def classifier_config(
    config: ConfigDict, *, names: Sequence[str], head: HeadChoice = "auto", setting: str
) -> ConfigDict:
    """The configuration of the classifier that a model becomes.

    Args:
        config: of the published model.
        names: of the classes, in the order of the outputs; none for a regression.
        head: `new` gives a classifier with other outputs a fresh head; `auto` keeps the one it has.
        setting: of the model in the job file.

    Raises:
        RefusedInput: a published classifier whose outputs are others than the data's.
    """
    stock = architecture(config)
    if not _is_known(stock, config):
        return config
    trained = {"problem_type": "single_label_classification" if names else "regression"}
    if keeps_head(config, head):
        _require_same_outputs(config, names, setting=setting)
        return config | (_named(names) if names else {}) | trained
    family = next(stock.removesuffix(suffix) for suffix in _HEADS if stock.endswith(suffix))
    outputs = list(names) or ["value"]
    kept = {key: value for key, value in config.items() if key not in ("num_labels", "problem_type")}
    return kept | {
        "architectures": [family + _HEADS[0]],
        **_named(outputs),
        **trained,
    }


def keeps_head(config: ConfigDict, head: HeadChoice) -> bool:
    """Whether a published model is a classifier already, and is to stay the one it is."""
    return is_classifier(config) and head == "auto"


def is_classifier(config: ConfigDict) -> bool:
    """Whether a model's head tells classes apart, or gives a number."""
    return architecture(config).endswith(_HEADS[0])


def _is_known(stock: str, config: ConfigDict) -> bool:
    """Whether a class is one of the family's own; others are left for `shape_of` to refuse."""
    family = next(
        default_architecture(config).removesuffix(end) for end in _HEADS if default_architecture(config).endswith(end)
    )
    return stock.removeprefix(family) in _HEADS and stock != "BertLMHeadModel"


def _named(outputs: Sequence[str]) -> ConfigDict:
    return {
        "id2label": {str(number): name for number, name in enumerate(outputs)},
        "label2id": {name: number for number, name in enumerate(outputs)},
    }


def fresh_parameters(found: Iterable[str], expected: Iterable[str], *, all_of_head: bool) -> set[str]:
    """Parameters of the head that start at random: those that the published folder lacks.

    Args:
        all_of_head: the linear map at the end too, although the folder has one: it is of other outputs.
    """
    head = {name for name in expected if name.startswith(_OF_THE_HEAD)}
    last = {name for name in head if name.startswith(_OF_THE_HEAD[:2])}
    return (head - set(found)) | (last if all_of_head else set())


def _require_same_outputs(config: ConfigDict, names: Sequence[str], *, setting: str) -> None:
    found = [str(name) for _, name in sorted((config.get("id2label") or {}).items(), key=lambda item: int(item[0]))]
    number = len(found) or int(config.get("num_labels", 2))
    unnamed = all(name == f"LABEL_{place}" for place, name in enumerate(found))
    wanted = list(names) or ["value"]
    same_names = not names or unnamed or [name.lower() for name in found] == [name.lower() for name in wanted]
    if number != len(wanted) or not same_names:
        given = f"tells apart {', '.join(found) or f'{number} classes'}"
        allowed = f"a model for {', '.join(wanted)}; set data.names to its words, or head: new for a fresh head"
        raise RefusedInput([Fault(setting, ", ".join(found), allowed, given=given)])
