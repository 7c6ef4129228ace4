"""Change a published model's configuration to the head that a job's data asks for. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from espalier.config.faults import Fault, RefusedInput
from espalier.models.architecture import architecture, default_architecture, is_classifier
from espalier.models.families import family_of, layout, stock_class
from espalier.models.shape import ConfigDict

HeadChoice = Literal["auto", "new"]


def language_model_config(config: ConfigDict, *, has_masked_lm_head: bool) -> ConfigDict:
    """The configuration of the language model that a published folder holds, whatever head it was published with.

    Args:
        has_masked_lm_head: whether the folder holds a head that fills in masks; without one an encoder stays as it is.
    """
    family, stock, default = family_of(config), architecture(config), default_architecture(config)
    if not _is_known(config):
        return config
    if family.causal:
        return config | {"architectures": [default]}
    if stock == default and config.get("architectures"):
        return config
    if has_masked_lm_head:
        return config | {"architectures": [family.class_for("masked_lm")]}
    return config if stock == family.class_for("classifier") else config | {"architectures": [default]}


def classifier_config(
    config: ConfigDict, *, names: Sequence[str], head: HeadChoice = "auto", setting: str
) -> ConfigDict:
    """The configuration of the classifier that is made from a model.

    Args:
        config: of the published model.
        names: of the classes, in the order of the outputs; none for a regression.
        head: `new` gives a classifier with other outputs a fresh head; `auto` keeps the one it has.
        setting: of the model in the job file.

    Raises:
        RefusedInput: a published classifier whose outputs are others than the data's; a family that has none.
    """
    classifier = family_of(config).class_for("classifier")
    if not _is_known(config):
        return config
    if classifier is None:
        raise RefusedInput([Fault(setting, config["model_type"], "a model of a family with a classifier")])
    trained = {"problem_type": "single_label_classification" if names else "regression"}
    if keeps_head(config, head):
        _require_same_outputs(config, names, setting=setting)
        return config | (_named(names) if names else {}) | trained
    outputs = list(names) or ["value"]
    kept = {key: value for key, value in config.items() if key not in ("num_labels", "problem_type")}
    return kept | {
        "architectures": [classifier],
        **_named(outputs),
        **trained,
    }


def keeps_head(config: ConfigDict, head: HeadChoice) -> bool:
    """Whether a published model is a classifier already, and is to stay the one it is."""
    return is_classifier(config) and head == "auto"


def _is_known(config: ConfigDict) -> bool:
    """Whether a class is one of the family's own; others are left for `shape_of` to refuse."""
    family = family_of(config)
    return architecture(config) in (*family.classes, *family.other_classes)


def _named(outputs: Sequence[str]) -> ConfigDict:
    return {
        "id2label": {str(number): name for number, name in enumerate(outputs)},
        "label2id": {name: number for number, name in enumerate(outputs)},
    }


def fresh_parameters(found: Iterable[str], config: ConfigDict, *, all_of_head: bool) -> set[str]:
    """Parameters of the head that start at random: those that the published folder lacks.

    Args:
        found: parameters that the folder has.
        config: of the model with the head.
        all_of_head: the linear map at the end too, although the folder has one: it is of other outputs.
    """
    stock = stock_class(config)
    head = {name for name in layout(config) if name.startswith(stock.initialised)}
    last = {name for name in head if name.startswith(f"{stock.head}.")}
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
