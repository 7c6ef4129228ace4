"""Compare a model's outputs here with those of stock transformers, when it is loaded and when it is exported."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from espalier.data.batches import make_batch
from espalier.data.labelled_sequences import ReadAt, read_place
from espalier.data.packing import Row
from espalier.models.architecture import is_classifier
from espalier.models.build import build_network
from espalier.models.families import family_of, is_causal, num_parameters, shape_of, stock_class
from espalier.models.shape import ConfigDict
from espalier.models.stock import stock_answers

_TOLERANCE = 1e-3
"""Of the largest logit: float32 on one host differs by 1e-6 of it, and another head or mask by more than 1e-2."""
_LENGTHS = (12, 7, 3)
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class _Probe:
    """A few rows of drawn tokens, of different lengths, so that a batch of them has padding."""

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Row:
        return self.rows[index]


def difference_from_stock(
    folder: Path,
    config: ConfigDict,
    read: Callable[[str], Tensor],
    *,
    as_stored: bool,
    fresh: Collection[str] = (),
) -> float | None:
    """The largest difference between stock transformers' outputs for a model folder and those of the model here.

    Float32 on the host, one model at a time, so that memory holds four bytes a parameter and no more.

    Args:
        folder: that stock code opens.
        config: of the model here.
        read: gives its parameters.
        as_stored: whether stock code takes the folder's own config.json, as whoever receives an export does.
        fresh: parameters of a new head, which the folder does not have; hidden states are compared then.

    Returns:
        None where they agree up to rounding, otherwise the largest difference.
    """
    probe, body_only = _probe(config), bool(fresh)
    own = _own_answers(config, read, probe, body_only=body_only, fresh=fresh)
    stock = stock_answers(folder, probe.rows, config=config, as_stored=as_stored, body_only=body_only)
    largest = 0.0
    for one, other in zip(own, stock, strict=True):
        if one.shape != other.shape:
            return float("inf")
        bound = _TOLERANCE * max(1.0, float(other.nan_to_num().abs().max()))
        if not torch.isclose(one, other, rtol=0.0, atol=bound, equal_nan=True).all():
            largest = max(largest, float((one - other).nan_to_num(nan=torch.inf).abs().max()))
    return largest or None


def fits_in_memory(config: ConfigDict) -> bool:
    """Whether a whole float32 copy takes no more than half of what is free; larger models are compared by their
    tensors' names and shapes alone."""
    return 4 * num_parameters(config) <= _SHARE_OF_MEMORY * psutil.virtual_memory().available


@torch.no_grad()
def _own_answers(
    config: ConfigDict, read: Callable[[str], Tensor], probe: _Probe, *, body_only: bool, fresh: Collection[str]
) -> list[Tensor]:
    network = build_network(config, dtype=torch.float32, device=torch.device("cpu")).eval()
    for name, parameter in network.model.named_parameters():
        parameter.zero_() if name in fresh else parameter.copy_(read(name))
    batch = make_batch(probe, np.arange(len(probe)))
    if body_only or stock_class(config).head_kind == "none":
        found = network.body(batch)
    else:
        found = network(batch, lambda hidden, weight, bias: torch.nn.functional.linear(hidden, weight, bias))
    answers = [line[: len(row.input_ids)] for line, row in zip(found, probe.rows, strict=True)]
    if body_only or not is_classifier(config):
        return answers
    read_at: ReadAt = "last" if is_causal(config) else "first"
    places = [read_place(row.input_ids, read_at, config.get("pad_token_id")) for row in probe.rows]
    return [answer[place] for answer, place in zip(answers, places, strict=True)]


def _probe(config: ConfigDict) -> _Probe:
    """The last row ends with the padding token, as tokenizers that append it make each text end."""
    shape, draw, rows = shape_of(config), np.random.default_rng(0), []
    pairs = family_of(config).token_types(config) > 1
    pad = config.get("pad_token_id")
    for length in _LENGTHS:
        length = min(length, shape.positions or length)
        ids = draw.integers(0, shape.vocabulary, length)
        places = np.arange(length)
        columns = {"token_type_ids": (places >= length // 2).astype(np.int64)} if pairs else {}
        rows.append(Row(ids, ids.copy(), places, np.zeros(length, dtype=np.int64), token_columns=columns))
    if pad is not None and pad >= 0:
        rows[-1].input_ids[-1] = pad
    return _Probe(tuple(rows))
