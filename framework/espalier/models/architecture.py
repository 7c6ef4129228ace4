"""The stock class that a configuration is run by."""

from __future__ import annotations

from espalier.models.shape import ConfigDict

_DEFAULT = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertModel",
}


def is_masked_lm(config: ConfigDict) -> bool:
    """Whether the model is trained to fill in hidden tokens."""
    return architecture(config) == "BertForMaskedLM"


def architecture(config: ConfigDict) -> str:
    """Name of the transformers class; `shape_of` has refused any that our tables do not describe."""
    named = config.get("architectures")
    return named[0] if named else default_architecture(config)


def default_architecture(config: ConfigDict) -> str:
    """The class of a configuration that names none."""
    return _DEFAULT[config["model_type"]]
