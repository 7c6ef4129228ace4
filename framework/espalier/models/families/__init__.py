"""Architectures as tables: shapes, parameters with their axes, configs of other shapes. Torch-free."""

from espalier.models.families.layout import (
    body_prefix,
    is_causal,
    layout,
    normed_axes,
    num_outputs,
    num_parameters,
    probes,
)
from espalier.models.families.reading import family_of, shape_of, stock_class
from espalier.models.families.resizing import misfit, resized
from espalier.models.families.tuned import tuned_names

__all__ = [
    "body_prefix",
    "family_of",
    "is_causal",
    "layout",
    "misfit",
    "normed_axes",
    "num_outputs",
    "num_parameters",
    "probes",
    "resized",
    "shape_of",
    "stock_class",
    "tuned_names",
]
