"""A network's body and head together say what the stock model says."""

from __future__ import annotations

import pytest
import torch

from espalier.data.batch import Batch
from espalier.models.families import is_causal
from espalier.models.network import Network
from support.architectures import CONFIGS, build, tokens


def whole_row(ids: torch.Tensor, **columns: torch.Tensor) -> Batch:
    rows, length = ids.shape
    positions = torch.arange(length).expand(rows, length)
    return Batch(ids, ids.clone(), positions, None, torch.arange(rows), torch.ones(rows), columns=columns)


def logits(network: Network, batch: Batch) -> torch.Tensor:
    return network(batch, lambda hidden, weight, bias: torch.nn.functional.linear(hidden, weight, bias))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bert"])
@torch.no_grad()
def test_logits_are_those_of_the_stock_model(name: str) -> None:
    config, ids = CONFIGS[name], tokens(rows=1)
    expected = build(config)(input_ids=ids).logits
    network = Network(build(config), causal=is_causal(config)).eval()
    found = logits(network, whole_row(ids))
    if expected.dim() == 2:  # a classifier: an encoder reads its first token, a decoder its last
        found = found[:, -1 if is_causal(config) else 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_encoder_is_told_which_text_of_a_pair_a_token_belongs_to() -> None:
    config, ids = CONFIGS["bert_classifier"], tokens(rows=1)
    segments = (torch.arange(ids.shape[1]) > 4).long()[None]
    expected = build(config)(input_ids=ids, token_type_ids=segments).logits
    network = Network(build(config), causal=False).eval()
    found = logits(network, whole_row(ids, token_type_ids=segments))[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(network, whole_row(ids))[:, 0], expected, atol=1e-3)


@torch.no_grad()
def test_columns_that_a_family_does_not_name_are_not_passed_on() -> None:
    """Stock GPT-2 would add the embeddings of words to those of token types."""
    ids = tokens(rows=1)
    network = Network(build(CONFIGS["gpt2"]), causal=True).eval()
    given = whole_row(ids, token_type_ids=torch.ones_like(ids), chosen=torch.ones_like(ids))
    assert torch.equal(logits(network, given), logits(network, whole_row(ids)))


def test_a_body_alone_has_no_head() -> None:
    with pytest.raises(ValueError, match="BertModel has no head"):
        _ = Network(build(CONFIGS["bert"]), causal=False).head
