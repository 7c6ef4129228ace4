"""DeepSpeed's configuration (0.19.8). The only place where a zero_level becomes DeepSpeed's number."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any

import torch
from torch import nn

from espalier.config.training import ZeroLevel
from espalier.engine.sizes import BUCKET_ELEMENTS

_DEEPSPEED_STAGE: dict[ZeroLevel, int] = {"none": 0, "optimizer": 1, "gradients": 2, "parameters": 3}


def deepspeed_config(
    level: ZeroLevel,
    *,
    dtype: torch.dtype,
    device: torch.device,
    num_parameters: int,
    num_microbatches: int = 1,
    clip: float = 0.0,
    offload: bool = False,
) -> dict[str, Any]:
    """The configuration of one engine. Batches, schedule and checkpoints are ours; DeepSpeed knows of none.

    Buckets are allocated whole, so they are no larger than the model, up to an even number, which DeepSpeed asks for.
    """
    on_gpu = device.type == "cuda"
    bucket = min(num_parameters + num_parameters % 2, BUCKET_ELEMENTS)
    zero: dict[str, Any] = {
        "stage": _DEEPSPEED_STAGE[level],
        "overlap_comm": on_gpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
    return {
        "train_micro_batch_size_per_gpu": 1,  # asked for, used for nothing but its own throughput line
        "gradient_accumulation_steps": num_microbatches,
        "gradient_clipping": clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU Adam is compiled on first use; torch's fused one is not
        "bf16": {"enabled": dtype == torch.bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},  # otherwise bf16 gradients are summed in bf16
        "steps_per_print": 2**62,
    }


def sharded_construction(config: dict[str, Any]) -> AbstractContextManager[Any]:
    """The context under which parameters are sharded over all workers as modules are made, for level parameters."""
    import deepspeed

    return deepspeed.zero.Init(config_dict_or_path=config)


def fetch_by_layer(layers: Iterable[nn.Module]) -> None:
    """At level parameters gather and release each layer's weights at once, before the engine is made.

    DeepSpeed would do it matrix by matrix, and its hooks then take longer than the work of a small layer: over 30
    layers of little width they made a step cost 4.5x one of level gradients, and by layer 2.5x.

    DeepSpeed takes a layer's gradients when that of its input is there. Without one, where nothing below is trained,
    it would take them before they are (a backward hook then runs too early): so every layer gets one to compute.
    """
    from deepspeed.utils import set_z3_leaf_module

    for layer in layers:
        set_z3_leaf_module(layer, True)
        if any(weight.requires_grad for weight in layer.parameters()):
            layer.register_forward_pre_hook(_ask_for_input_gradient)


def forget_gradients(optimizer: Any) -> None:
    """At level parameters, after an update: DeepSpeed (0.19.8) would apply these again where a step gives no new ones.

    A gradient of a step's first microbatch is copied over what was there, one of a later microbatch is added to it.
    """
    optimizer.grad_partitions_flat_buffer.zero_()
    for flat in optimizer.fp32_partitioned_groups_flat:
        if flat.grad is not None:  # with offload
            flat.grad.zero_()


def _ask_for_input_gradient(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    if torch.is_grad_enabled() and not inputs[0].requires_grad:
        inputs[0].requires_grad_()


def prepare_deepspeed() -> None:
    """Join DeepSpeed to the process group that is there, without its shared-memory op.

    That op is compiled on first use (85 s, a C++ compiler) and serves inference on one host only; marked as not
    available it is left out, and nothing that training uses changes.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _import_muon_uncompiled()
    deepspeed.init_distributed(dist_init_required=False, verbose=False)


def _import_muon_uncompiled() -> None:
    """Import DeepSpeed's Muon, which no stage uses, without the compiler that its functions are decorated with.

    Every ZeRO optimizer imports it (0.19.8) to compare types, and `torch.compile` then loads torch's inductor: 2 s of
    each worker's start.
    """
    from deepspeed.runtime import compiler

    decorator = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        with suppress(ModuleNotFoundError):  # other versions have it elsewhere
            importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    finally:
        compiler.compile = decorator
