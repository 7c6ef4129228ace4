"""Giving memory back. Destroying a DeepSpeed engine frees nothing at level parameters; this does."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

import torch
from torch import nn

_LINEAR = torch.nn.functional.linear


def empty_module(module: nn.Module) -> None:
    """Cut everything that a module holds alive: tensors, hooks, what DeepSpeed hung on it.

    Others (hooks' closures, DeepSpeed's global tables) may keep the module object itself; an empty shell is small.
    """
    for child in module.modules():
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            getattr(child, hooks).clear()
        for name in [name for name in vars(child) if name.startswith("ds_")]:
            delattr(child, name)
        for parameter in child._parameters.values():
            if parameter is not None:
                _empty_parameter(parameter)
        child._parameters = dict(child._parameters)  # in place of DeepSpeed's ordered dict, which knows the engine
        for name in child._buffers:
            child._buffers[name] = None


def free_memory() -> None:
    """Collect garbage and hand freed pages back to the host and the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _empty_parameter(parameter: nn.Parameter) -> None:
    parameter.grad = None
    vars(parameter).clear()  # ds_tensor and friends; clearing tensors alone did not help (DeepSpeed 0.19.8)
    parameter.data = torch.empty(0, dtype=parameter.dtype)


def close_deepspeed(engine: Any) -> None:
    """Free a DeepSpeed engine (0.19.8): `destroy()` alone frees nothing at level parameters."""
    network, optimizer = engine.module, engine.optimizer
    engine.destroy()
    empty_module(network)
    for holder in (getattr(optimizer, "optimizer", None), optimizer, engine):
        if hasattr(holder, "__dict__"):
            vars(holder).clear()
    torch.nn.functional.linear = _LINEAR  # zero.Init replaces it for the whole process and never puts it back
    free_memory()
