"""Build transformers models from a `config.json`: without values, or with random ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import transformers
from torch import nn
from transformers.initialization import no_init_weights

from espalier.models.addition import Addition
from espalier.models.architecture import architecture
from espalier.models.families import is_causal
from espalier.models.network import Network
from espalier.models.shape import ConfigDict


def build_network(
    config: ConfigDict,
    *,
    dtype: torch.dtype,
    device: torch.device,
    sharding: AbstractContextManager[Any] | None = None,
    additions: Sequence[Addition] = (),
) -> Network:
    """Build a model whose parameters are uninitialised; its buffers have their values.

    Args:
        config: a Hugging Face configuration, as in config.json.
        sharding: an engine's context under which parameters are sharded as they are made.
        additions: of the stage that trains the model.
    """
    with no_init_weights(), device, sharding or nullcontext():
        model = _from_config(config, dtype)
        model.tie_weights()  # init_weights, which would have done it, is switched off
        network = Network(model, causal=is_causal(config))
        for addition in additions:
            network.add(addition)
    if sharding is not None:
        _restore_buffers(model, config, dtype)
    return network


def build_initialised(config: ConfigDict, *, seed: int) -> transformers.PreTrainedModel:
    """A stock transformers model with seeded random weights, float32, on the host."""
    torch.manual_seed(seed)
    return _from_config(config, torch.float32)


def stock_config(config: ConfigDict) -> transformers.PretrainedConfig:
    """The configuration object of transformers."""
    settings = {key: value for key, value in config.items() if key not in _NOT_SETTINGS}
    return transformers.AutoConfig.for_model(config["model_type"], **settings)


def _from_config(config: ConfigDict, dtype: torch.dtype) -> transformers.PreTrainedModel:
    model_class = getattr(transformers, architecture(config))  # from our tables, never a name from a file
    return model_class._from_config(stock_config(config), dtype=dtype, attn_implementation="sdpa")


_NOT_SETTINGS = (
    *("model_type", "architectures", "dtype", "torch_dtype", "transformers_version", "auto_map"),
    # how a model answers its callers, and which kernels it takes; ours are asked with settings of their own
    *("return_dict", "output_attentions", "output_hidden_states", "use_cache", "torchscript"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
    "chunk_size_feed_forward",  # less memory, the same result, and lengths that do not divide refused
)


def _restore_buffers(model: nn.Module, config: ConfigDict, dtype: torch.dtype) -> None:
    """Undo what deepspeed.zero.Init (0.19.8) does to buffers: it casts RoPE's frequencies to bf16.

    The reference model costs address space only: nothing ever writes its parameters.
    """
    with no_init_weights():
        reference = dict(_from_config(config, dtype).named_buffers())
    for path, value in reference.items():
        owner, _, name = path.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, name, value.to(module.get_buffer(name).device))
