"""Tiny configs of every family that the tables describe, and the stock models built from them."""

from __future__ import annotations

import torch
import transformers

_LLAMA = {
    "vocab_size": 53,
    "hidden_size": 60,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_QWEN3 = _LLAMA | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 31}
_GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 53,
    "n_embd": 35,
    "n_layer": 3,
    "n_head": 5,
    "n_positions": 23,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_BERT = {
    "model_type": "bert",
    "vocab_size": 53,
    "hidden_size": 39,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 23,
    "type_vocab_size": 5,
}


def _llama(**settings: object) -> dict[str, object]:
    return _LLAMA | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | settings


def _qwen2(**settings: object) -> dict[str, object]:
    return _LLAMA | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]} | settings


CONFIGS: dict[str, dict[str, object]] = {
    "llama": _llama(head_dim=4),
    "llama_tied": _llama(head_dim=14, tie_word_embeddings=True),
    "llama_biased": _llama(head_dim=4, attention_bias=True, mlp_bias=True),
    "llama_unshared": _llama(num_key_value_heads=None),
    "llama_one_kv": _llama(num_key_value_heads=1),
    "mistral": _LLAMA
    | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_size": 29, "head_dim": 14},
    "qwen2": _qwen2(),
    "qwen2_tied": _qwen2(tie_word_embeddings=True),
    "qwen3": _QWEN3 | {"head_dim": 10},
    "qwen3_tied_biased": _QWEN3 | {"head_dim": 4, "attention_bias": True, "tie_word_embeddings": True},
    "gpt2": _GPT2 | {"n_inner": None},
    "gpt2_untied": _GPT2 | {"n_inner": 41, "tie_word_embeddings": False},
    "llama_classifier": _llama(
        head_dim=4, architectures=["LlamaForSequenceClassification"], num_labels=7, pad_token_id=0
    ),
    "gpt2_classifier": _GPT2
    | {"n_inner": None, "architectures": ["GPT2ForSequenceClassification"], "num_labels": 5, "pad_token_id": 0},
    "bert": _BERT | {"architectures": ["BertModel"]},
    "bert_masked_lm": _BERT | {"architectures": ["BertForMaskedLM"]},
    "bert_masked_lm_untied": _BERT | {"architectures": ["BertForMaskedLM"], "tie_word_embeddings": False},
    "bert_classifier": _BERT
    | {"architectures": ["BertForSequenceClassification"], "id2label": {str(i): str(i) for i in range(7)}},
}

WINDOWED: dict[str, dict[str, object]] = {
    "mistral_window": _LLAMA
    | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "head_dim": 4, "sliding_window": 3},
    "qwen2_window": _qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen3_mixed": _QWEN3
    | {
        "head_dim": 4,
        "use_sliding_window": True,
        "sliding_window": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}
"""Models some or all of whose layers look back over a few tokens only."""


def build(config: dict[str, object], seed: int = 0) -> torch.nn.Module:
    """The stock model in eval mode, float32, every parameter random (biases and norms too)."""
    torch.manual_seed(seed)
    stock = transformers.AutoConfig.for_model(**config)
    model = getattr(transformers, config["architectures"][0])(stock).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + noise / 5 if parameter.dim() == 1 else noise / parameter.shape[-1] ** 0.5)
    return model


@torch.no_grad()
def output(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Logits; of a model without a head its last hidden states."""
    return model(input_ids=tokens)[0]


def tokens(rows: int = 2, length: int = 11) -> torch.Tensor:
    return torch.randint(3, 53, (rows, length), generator=torch.Generator().manual_seed(7))
