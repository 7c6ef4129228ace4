"""Architectures as tables: shapes, parameters with their axes, configs of other shapes. Torch-free."""

from espalier.models.families.layout import (
    body_prefix,
    has_post_norm,
    is_causal,
    layout,
    num_outputs,
    num_parameters,
    probes,
)
from espalier.models.families.reading import shape_of
from espalier.models.families.resizing import misfit, resized
from espalier.models.families.tuned import tuned_names

__all__ = [
    "body_prefix",
    "has_post_norm",
    "is_causal",
    "layout",
    "misfit",
    "num_outputs",
    "num_parameters",
    "probes",
    "resized",
    "shape_of",
    "tuned_names",
]
