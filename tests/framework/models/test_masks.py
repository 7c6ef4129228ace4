"""A document's logits are those of the stock model on that document alone, whatever shares its row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.batches import make_batch
from espalier.data.packing import Row
from espalier.models.families import is_causal, layout, resized, shape_of
from espalier.models.network import Network
from support.architectures import CONFIGS, WINDOWED, build

GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU")])
LAYOUTS = {  # lengths of the documents of each row
    "packed": [[4, 7], [1, 3, 7], [11], [5, 6]],
    "padded": [[11], [5], [1], [8]],
    "packed and padded": [[4, 3, 2], [9, 2], [1, 1]],
}


@dataclass(frozen=True)
class Rows:
    """Rows of documents of random tokens; of pairs, each document's second half is the second text."""

    lengths: list[list[int]]
    pairs: bool

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> Row:
        lengths = np.array(self.lengths[index])
        ids = np.random.default_rng(index).integers(3, 53, lengths.sum())
        documents = np.repeat(np.arange(len(lengths)), lengths)
        positions = np.concatenate([np.arange(length) for length in lengths])
        columns = {"token_type_ids": (positions > lengths[documents] // 2).astype(np.int64)} if self.pairs else {}
        return Row(ids, ids.copy(), positions, documents, token_columns=columns)


def logits_of(network: Network, batch: Batch) -> Tensor:
    """[B, T, V], as the head's use in an engine computes them."""
    return network(batch, lambda hidden, weight, bias: torch.nn.functional.linear(hidden, weight, bias))


def require_same(network: Network, stock: torch.nn.Module, rows: Rows) -> None:
    """Hold every document of the rows to the stock model's answer on it alone."""
    config, device = stock.config, stock.device
    found = logits_of(network, make_batch(rows, np.arange(len(rows))).to(device)).cpu()
    for line, row in zip(found, map(rows.row, range(len(rows))), strict=True):
        for document in np.unique(row.documents):
            inside = row.documents == document
            inputs = {name: torch.from_numpy(ids[inside])[None].to(device) for name, ids in row.token_columns.items()}
            ids = torch.from_numpy(row.input_ids[inside])[None].to(device)
            expected = stock(input_ids=ids, **inputs).logits[0].cpu()
            own = line[: len(inside)][torch.from_numpy(inside)]
            if expected.dim() == 1:  # a classifier reads one token
                own = own[0 if config.model_type == "bert" else -1]
            torch.testing.assert_close(own, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("lengths", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", [*(name for name in CONFIGS if name != "bert"), *WINDOWED])
@pytest.mark.parametrize("device", ["cpu", GPU])
@torch.no_grad()
def test_a_document_in_a_row_is_the_document_alone(device: str, name: str, lengths: list[list[int]]) -> None:
    config = (CONFIGS | WINDOWED)[name]
    network, stock = Network(build(config), causal=is_causal(config)).eval().to(device), build(config).to(device)
    require_same(network, stock, Rows(lengths, pairs=False))
    if config["model_type"] == "bert":
        require_same(network, stock, Rows(lengths, pairs=True))


@pytest.mark.parametrize("lengths", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", WINDOWED)
@torch.no_grad()
def test_windows_follow_the_layers_that_are_drawn(name: str, lengths: list[list[int]]) -> None:
    config, order, stock = WINDOWED[name], (1, 0, 2, 2), build(WINDOWED[name])
    network = Network(build(config), causal=True).eval()
    network.run_layers(order)
    unrolled_config = resized(config, shape_of(config).cut(layers=len(order)), kept_layers=order)
    unrolled, weights = build(unrolled_config), dict(stock.named_parameters())
    for key, value in unrolled.named_parameters():
        layer = layout(unrolled_config)[key].layer
        value.copy_(weights[key if layer is None else key.replace(f".{layer}.", f".{order[layer]}.")])
    require_same(network, unrolled, Rows(lengths, pairs=False))


@torch.no_grad()
def test_the_windows_of_these_models_matter() -> None:
    for config in WINDOWED.values():
        ids, stock = torch.arange(3, 14)[None], build(config)
        wide = build(config | {"sliding_window": 64})
        assert not torch.allclose(stock(input_ids=ids).logits, wide(input_ids=ids).logits, atol=1e-2)
