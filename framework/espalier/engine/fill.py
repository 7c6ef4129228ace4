"""Filling weights that no optimizer holds from a committed state, in the format that they are computed with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from espalier.checkpoint.read import StateReader
from espalier.engine.layouts import owned_run


@torch.no_grad()
def fill(parameters: Mapping[str, nn.Parameter], reader: StateReader, *, rank: int) -> None:
    """Read the weights tensor by tensor; of a sharded one this worker's run only, so that it never stands whole.

    Before DeepSpeed's engine is made: it keeps small parameters whole, and would not see what is written later.
    """
    for name, parameter in parameters.items():
        if hasattr(parameter, "ds_tensor"):
            offset, length = owned_run(parameter, rank)
            if length > 0:
                parameter.ds_tensor[:length].copy_(reader.read("parameter", name, offset=offset, length=length))
        else:
            parameter.copy_(reader.tensor("parameter", name))
