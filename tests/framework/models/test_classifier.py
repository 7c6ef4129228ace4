"""From a published model to a classifier of the job's own classes."""

from __future__ import annotations

from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.models.architecture import architecture
from espalier.models.classifier import classifier_config, fresh_parameters, keeps_head, language_model_config
from espalier.models.families import layout, num_outputs, shape_of
from support.architectures import CONFIGS

NAMES = ("no", "yes", "perhaps")
SETTING = "stages.parent.model"


def classifier(config: dict[str, Any], names: tuple[str, ...] = NAMES, **settings: Any) -> dict[str, Any]:
    return classifier_config(config, names=names, setting=SETTING, **settings)


def is_kept(config: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Whether nothing is another but what the classes are called and what the head is trained for."""
    found = classifier(config, names)
    of_names = ("id2label", "label2id", "problem_type")
    same = {key: found[key] for key in found if key not in of_names} == {
        key: config[key] for key in config if key not in of_names
    }
    words = {str(number): name for number, name in enumerate(names)}
    trained = "single_label_classification" if names else "regression"
    return (
        same
        and keeps_head(config, "auto")
        and found["problem_type"] == trained
        and found["id2label"] == (words or config["id2label"])
    )


def published(*names: str) -> dict[str, Any]:
    """A published classifier whose classes are called so."""
    return CONFIGS["bert_classifier"] | {"id2label": {str(i): name for i, name in enumerate(names)}}


@pytest.mark.parametrize(
    ("config", "stock"),
    [
        ("llama", "LlamaForSequenceClassification"),
        ("gpt2", "GPT2ForSequenceClassification"),
        ("qwen3", "Qwen3ForSequenceClassification"),
        ("bert", "BertForSequenceClassification"),
        ("bert_masked_lm", "BertForSequenceClassification"),
    ],
)
@pytest.mark.parametrize("names", [NAMES, ()], ids=["classes", "number"])
def test_models_without_a_classifier_get_one(config: str, stock: str, names: tuple[str, ...]) -> None:
    found = classifier(CONFIGS[config], names)
    assert found["architectures"] == [stock]
    outputs = list(names) or ["value"]
    assert found["id2label"] == {str(number): name for number, name in enumerate(outputs)}
    assert found["label2id"] == {name: number for number, name in enumerate(outputs)}
    assert found["problem_type"] == ("single_label_classification" if names else "regression")
    assert num_outputs(found) == len(outputs) and shape_of(found).layers == shape_of(CONFIGS[config]).layers
    untouched = set(CONFIGS[config]) - {"architectures"}
    assert {key: found[key] for key in untouched} == {key: CONFIGS[config][key] for key in untouched}


def test_a_config_that_names_no_class_is_what_its_family_stands_for() -> None:
    bare = {key: value for key, value in CONFIGS["llama"].items() if key != "architectures"}
    assert classifier(bare)["architectures"] == ["LlamaForSequenceClassification"]


def test_what_was_said_of_other_outputs_is_forgotten() -> None:
    found = classifier(CONFIGS["bert"] | {"num_labels": 7, "problem_type": "regression"})
    assert "num_labels" not in found and found["problem_type"] == "single_label_classification"


@pytest.mark.parametrize(
    "names", [("no", "yes", "perhaps"), ("No", "YES", "Perhaps"), ("LABEL_0", "LABEL_1", "LABEL_2")]
)
def test_a_classifier_of_the_same_classes_is_kept(names: tuple[str, ...]) -> None:
    config = published(*names)
    assert is_kept(config, NAMES), "the job's words for the classes are those of the export"
    assert not keeps_head(config, "new")


@pytest.mark.parametrize("said", ["multi_label_classification", "regression"])
def test_a_kept_head_is_exported_as_what_it_is_trained_for(said: str) -> None:
    assert is_kept(published(*NAMES) | {"problem_type": said}, NAMES)
    assert is_kept(published("score") | {"problem_type": said}, ())


@pytest.mark.parametrize(
    ("family", "published_as", "has_head", "expected"),
    [
        ("bert", "BertForPreTraining", True, "BertForMaskedLM"),
        ("bert", "BertForSequenceClassification", True, "BertForMaskedLM"),
        ("bert", None, True, "BertForMaskedLM"),
        ("bert", None, False, "BertModel"),
        ("bert", "BertForQuestionAnswering", False, "BertModel"),
        ("bert", "BertForSequenceClassification", False, "BertForSequenceClassification"),
        ("llama", "LlamaModel", False, "LlamaForCausalLM"),
        ("gpt2", "GPT2DoubleHeadsModel", False, "GPT2LMHeadModel"),
        ("qwen3", "Qwen3ForSequenceClassification", False, "Qwen3ForCausalLM"),
        ("llama", "LlavaForConditionalGeneration", False, "LlavaForConditionalGeneration"),
    ],
)
def test_a_language_model_is_taken_out_of_whatever_it_was_published_as(
    family: str, published_as: str | None, has_head: bool, expected: str
) -> None:
    config = CONFIGS[family] | {"architectures": [published_as] if published_as else None}
    assert architecture(language_model_config(config, has_masked_lm_head=has_head)) == expected


@pytest.mark.parametrize("published_as", ["BertForPreTraining", "BertForTokenClassification", "BertModel"])
def test_a_classifier_is_made_of_whatever_was_published(published_as: str) -> None:
    config = CONFIGS["bert"] | {"architectures": [published_as]}
    assert classifier(config)["architectures"] == ["BertForSequenceClassification"]


def test_names_are_read_in_the_order_of_their_numbers() -> None:
    names = tuple(f"class {number}" for number in range(12))
    config = published(*names)
    config["id2label"] = dict(sorted(config["id2label"].items()))  # "10" before "2"
    assert is_kept(config, names)


def test_a_regression_takes_any_one_output() -> None:
    for config in (published("LABEL_0"), published("score")):
        assert is_kept(config, ())


@pytest.mark.parametrize(
    ("config", "names", "said"),
    [
        (published("no", "yes"), NAMES, "tells apart no, yes; allowed: a model for no, yes, perhaps; set data.names"),
        (published("yes", "no", "perhaps"), NAMES, "tells apart yes, no, perhaps; allowed: a model for no, yes, p"),
        (published("LABEL_0", "LABEL_1"), NAMES, "tells apart LABEL_0, LABEL_1"),
        (published("no", "yes"), (), "allowed: a model for value"),
        (CONFIGS["llama_classifier"], NAMES, "tells apart 7 classes"),
        (CONFIGS["gpt2_classifier"] | {"num_labels": 2, "id2label": {}}, NAMES, "tells apart 2 classes"),
    ],
)  # fmt: skip
def test_a_classifier_of_other_classes_is_refused_unless_its_head_is_new(
    config: dict[str, Any], names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RefusedInput) as refused:
        classifier(config, names)
    (fault,) = refused.value.faults
    assert fault.path == SETTING and said in str(fault) and "head: new" in fault.allowed
    found = classifier(config, names, head="new")
    assert num_outputs(found) == max(1, len(names)) and found["architectures"] == config["architectures"]


def test_two_outputs_are_what_a_config_means_that_says_nothing() -> None:
    silent = {key: value for key, value in CONFIGS["gpt2_classifier"].items() if key != "num_labels"}
    assert is_kept(silent, ("a", "b"))
    with pytest.raises(RefusedInput, match="tells apart 2 classes"):
        classifier(silent)


def test_fresh_parameters_are_those_of_the_head_that_the_folder_lacks() -> None:
    config = CONFIGS["bert_classifier"]
    whole = set(layout(config))
    head = {name for name in whole if name.startswith("classifier.")}
    pooler = {name for name in whole if name.startswith("bert.pooler.")}
    assert len(head) == len(pooler) == 2
    assert fresh_parameters(whole, config, all_of_head=False) == set()
    assert fresh_parameters(whole, config, all_of_head=True) == head, "the pooler is of no outputs"
    assert fresh_parameters(whole - head - pooler, config, all_of_head=True) == head | pooler
    assert fresh_parameters(whole - pooler, config, all_of_head=False) == pooler
    body = next(name for name in whole if "attention" in name)
    assert fresh_parameters(whole - {body}, config, all_of_head=False) == set(), "a missing body is no fresh head"


def test_the_fresh_head_of_a_decoder() -> None:
    found = layout(CONFIGS["llama"])
    assert fresh_parameters(found, CONFIGS["llama_classifier"], all_of_head=True) == {"score.weight"}
