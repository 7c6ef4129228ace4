"""A published folder is read as stock `from_pretrained` of the task's class does, or refused before a run starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from espalier.config.faults import RefusedInput
from espalier.models.published import Published, check_published, with_padding
from espalier.models.stock_check import difference_from_stock
from support.architectures import CONFIGS, WINDOWED, build

SETTING = "stages.parent.model"
LABELS = ("no", "yes", "perhaps")
Tensors = dict[str, Tensor]


def folder_of(root: Path, config: dict[str, Any], change: Callable[[Tensors], Tensors] = dict, **keys: Any) -> Path:
    """What `save_pretrained` writes of a model, its tensors and its config.json changed."""
    build(config).save_pretrained(root)
    file = root / "model.safetensors"
    save_file({name: value.clone() for name, value in change(load_file(file)).items()}, file, {"format": "pt"})
    written = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps(written | keys))
    return root


def looked_at(folder: Path, outputs: tuple[str, ...] | None = None) -> Published:
    return with_padding(check_published(folder, outputs=outputs, head="auto", setting=SETTING), 0)


def apart(folder: Path, found: Published) -> float | None:
    """From stock code, with what is read of the folder."""
    stored = load_file(folder / "model.safetensors")
    read = lambda name: stored[found.sources[name]]  # noqa: E731
    return difference_from_stock(folder, found.config, read, as_stored=False, fresh=found.fresh)


def old_names(tensors: Tensors) -> Tensors:
    ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {next((n[: -len(e)] + o for e, o in ends.items() if n.endswith(e)), n): v for n, v in tensors.items()}


def pretrained(tensors: Tensors) -> Tensors:
    """With the pooler and the second head of a BERT as it is first trained."""
    pooler = {"bert.pooler.dense.weight": torch.ones(39, 39), "bert.pooler.dense.bias": torch.ones(39)}
    return (
        tensors
        | pooler
        | {"cls.seq_relationship.weight": torch.ones(2, 39), "cls.seq_relationship.bias": torch.ones(2)}
    )


def tie_stored(tensors: Tensors) -> Tensors:
    copies = {"lm_head.weight": "model.embed_tokens.weight", "cls.predictions.decoder.bias": "cls.predictions.bias"}
    copies |= {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    return tensors | {name: tensors[one] for name, one in copies.items() if one in tensors}


def only_head(tensors: Tensors) -> Tensors:
    return {"lm_head.weight" if name == "model.embed_tokens.weight" else name: v for name, v in tensors.items()}


def bare(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): value for name, value in tensors.items()}


ACCEPTED = [
    ("bert_masked_lm", old_names, {}),
    ("bert_masked_lm", pretrained, {}),
    ("bert_masked_lm", lambda tensors: old_names(pretrained(tensors)), {"architectures": ["BertForPreTraining"]}),
    ("bert_masked_lm", tie_stored, {}),
    ("llama_tied", tie_stored, {}),
    ("gpt2", bare, {"architectures": ["GPT2Model"]}),
]


@pytest.mark.parametrize("outputs", [None, LABELS, ()], ids=["text", "classes", "number"])
@pytest.mark.parametrize(("name", "change", "keys"), ACCEPTED)
def test_what_stock_code_reads_is_read_alike(
    name: str, change: Callable[[Tensors], Tensors], keys: dict[str, Any], outputs: Any, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, CONFIGS[name], change, **keys)
    found = looked_at(folder, outputs)
    assert bool(found.fresh) == (outputs is not None)
    assert apart(folder, found) is None


def test_an_embedding_stored_under_its_heads_name_is_read_where_stock_code_ties_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CONFIGS["llama_tied"], only_head)
    assert apart(folder, looked_at(folder)) is None
    with pytest.raises(RefusedInput, match=r"embed_tokens\.weight` is missing"):  # stock code would draw it at random
        looked_at(folder, LABELS)


@pytest.mark.parametrize("name", [*(name for name in CONFIGS if name != "bert"), *WINDOWED])
def test_every_family_and_head_answers_as_stock_code_does(name: str, tmp_path: Path) -> None:
    config = (CONFIGS | WINDOWED)[name]
    folder = folder_of(tmp_path, config)
    outputs = None if "classifier" not in name else tuple(map(str, range(build(config).config.num_labels)))
    found = looked_at(folder, outputs)
    assert apart(folder, found) is None
    stored = load_file(folder / "model.safetensors")
    other = next(one for one in found.sources if ("norm" in one.lower() and "weight" in one) or "ln_1.weight" in one)
    read = lambda one: stored[found.sources[one]] * (1.5 if one == other else 1.0)  # noqa: E731
    assert difference_from_stock(folder, found.config, read, as_stored=False) is not None, "a probe that can fail"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama_tied", lambda t: t | {"lm_head.weight": torch.ones(53, 60)}, "lm_head.weight` differs from `model.emb"),
        ("llama", lambda t: {n: v for n, v in t.items() if n != "lm_head.weight"}, "lm_head.weight` is missing"),
        ("llama", lambda t: t | {"model.layers.3.mlp.up_proj.weight": torch.ones(3)}, "no tensor of this name"),
        ("llama", lambda t: t | {"lm_head.bias": torch.ones(53)}, "no tensor of this name"),
        ("llama", lambda t: t | {"model.norm.weight": torch.ones(59)}, r"shape \(60,\)"),
    ],
)
def test_tensors_that_make_another_model_are_refused(
    name: str, change: Callable[[Tensors], Tensors], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedInput, match=said):
        looked_at(folder_of(tmp_path, CONFIGS[name], change))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_files_that_are_no_plain_files_are_refused_without_waiting(file: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CONFIGS["llama"])
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(RefusedInput, match=f"{file}.*no plain file"):
        looked_at(folder)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CONFIGS["llama"])
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(RefusedInput, match=r"model\.safetensors.*cut short"):
        looked_at(folder)


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("llama", {"hidden_act": "nonsense"}, "hidden_act"),
        ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ("llama", {"rope_parameters": {"rope_type": "magic"}}, r"rope_parameters\.rope_type"),
        ("llama", {"rope_parameters": {"rope_type": ["yarn"]}}, r"rope_parameters\.rope_type"),
        ("llama", {"rope_scaling": {"type": "linear"}}, r"rope_scaling\.factor"),
        ("llama", {"num_attention_heads": 10**30}, "num_attention_heads"),
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("llama", {"head_dim": 5}, "head_dim"),
        ("llama", {"is_causal": False}, "is_causal"),
        ("llama", {"pad_token_id": 53}, "pad_token_id"),
        ("llama", {"architectures": "LlamaForCausalLM"}, "architectures"),
        ("llama", {"model_type": ["llama"]}, "model_type"),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 3, "use_sliding_window": False}, "layer_types"),
        ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"id2label": {"x": "no"}}, "id2label"),
    ],
)
def test_settings_that_stock_code_stumbles_over_are_named(
    name: str, keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedInput, match=rf"{SETTING}: config\.json: {said}"):
        looked_at(folder_of(tmp_path, CONFIGS[name], **keys), LABELS if name == "bert" else None)


def test_a_config_that_is_deeper_than_python_reads_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CONFIGS["llama"])
    (folder / "config.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(RefusedInput, match=r"config\.json"):
        looked_at(folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"return_dict": False},
        {"output_hidden_states": True, "output_attentions": True},
        {"use_cache": False, "torchscript": True},
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert_masked_lm"])
def test_how_a_config_wants_its_callers_answered_changes_nothing(
    name: str, keys: dict[str, Any], tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, CONFIGS[name], **keys)
    assert apart(folder, looked_at(folder)) is None


def test_what_stock_code_leaves_in_buffers_that_no_file_holds_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a forked process that has trained at level `parameters` it leaves them uninitialised."""
    opened = transformers.LlamaForCausalLM.from_pretrained

    def spoiled(*arguments: Any, **settings: Any) -> Any:
        model = opened(*arguments, **settings)
        model.model.rotary_emb.inv_freq.fill_(-359.0)
        return model

    folder = folder_of(tmp_path, CONFIGS["llama"])
    found = looked_at(folder)
    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", spoiled)
    assert apart(folder, found) is None
