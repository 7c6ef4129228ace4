"""The ledger's formulas against what torch counts while a model really runs, for every family and any depth."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from espalier.config.training import TuneConfig
from espalier.data.batch import NO_LABEL, Batch
from espalier.engine.objective import TokenObjective
from espalier.models.build import build_network
from espalier.models.families import layout, shape_of, tuned_names
from espalier.models.families.naming import tied_names
from espalier.models.flops import trained_flops
from espalier.models.trained_part import TrainedPart
from espalier.objectives.terms import Term
from espalier.surgery.depth_maps import sharing_order
from support.architectures import CONFIGS

ROWS, LENGTH = 2, 48
UNSEEN = {torch.ops.aten.addmm_: lambda _, left, right, **more: 2 * left[0] * left[1] * right[1]}
"""torch's counter overlooks the product that adds in place, which sums a head's gradient."""
_BERT = {"hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 4, "max_position_embeddings": 48}
_SIZES = {
    "gpt2": {"n_embd": 96, "n_head": 4, "n_positions": 48, "n_inner": 160, "vocab_size": 211},
    "bert": _BERT | {"vocab_size": 211},
}
_LLAMA = {"hidden_size": 96, "intermediate_size": 160, "vocab_size": 211}


def large(name: str) -> dict[str, object]:
    config = CONFIGS[name]
    return config | _SIZES.get(str(config["model_type"]), _LLAMA)


def batch_of(read: int) -> Batch:
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    labels = ids.clone()
    labels[:, read:] = NO_LABEL
    return Batch(ids, labels, torch.arange(LENGTH).expand(ROWS, -1), None, torch.arange(ROWS), torch.ones(ROWS))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_within_one_percent_of_what_torch_counts(name: str, checkpointing: bool) -> None:
    config = large(name)
    network = build_network(config, dtype=torch.float32, device=torch.device("cpu")).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.02)
    if checkpointing:
        network.checkpoint_activations()
    read = 12 if name.startswith("bert_masked") else LENGTH
    batch, terms = batch_of(read), (Term.of("cross_entropy"),)
    use = None if name == "bert" else TokenObjective(terms).use(batch, None, [1.0])
    held = shape_of(config).layers
    for depth in (held, 5):
        network.run_layers(sharing_order("interpolate", held, depth))
        with FlopCounterMode(display=False, custom_mapping=UNSEEN) as counter, sdpa_kernel(SDPBackend.MATH):
            out = network(batch, use)
            (out.sum() if use is None else out[0]).backward()
        counted = trained_flops(
            config,
            tokens=ROWS * LENGTH,
            sequence_tokens=LENGTH,
            layers=depth,
            read_share=read / LENGTH,
            activation_checkpointing=checkpointing,
        )
        assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


_PARTS = {
    "query and value": (
        "*.q_proj.*",
        "*.v_proj.*",
        "*.c_attn.*",
        "*.query.*",
        "*.value.*",
        "*norm*",
        "*ln_*",
        "*Norm*",
    ),
    "last layer": ("*.2.*",),
    "middle FFN": ("*.1.mlp.*", "*.1.intermediate.*", "*.1.output.*"),
    "head": ("lm_head.*", "cls.predictions.decoder.*", "score.*", "classifier.*"),
    "biases": ("*.bias",),
    "last norm": ("model.norm.*", "transformer.ln_f.*", "cls.predictions.transform.*", "*pooler*"),
}


@pytest.mark.parametrize("part", _PARTS)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_of_a_part_within_two_percent_of_what_torch_counts(name: str, checkpointing: bool, part: str) -> None:
    config = large(name)
    known = (*layout(config), *tied_names(config))
    patterns = tuple(one for one in _PARTS[part] if any(fnmatchcase(word, one) for word in known))
    if name == "bert" or not patterns:
        pytest.skip("nothing of this part to train")
    trained = tuned_names(config, TuneConfig(only=patterns))
    assert trained is not None
    network = build_network(config, dtype=torch.float32, device=torch.device("cpu")).train()
    for own, parameter in network.model.named_parameters():
        parameter.detach().normal_(std=0.02)
        parameter.requires_grad_(own in trained)
    if checkpointing:
        network.checkpoint_activations()
    read = 12 if name.startswith("bert_masked") else LENGTH
    use = TokenObjective((Term.of("cross_entropy"),)).use(batch_of(read), None, [1.0])
    with FlopCounterMode(display=False, custom_mapping=UNSEEN) as counter, sdpa_kernel(SDPBackend.MATH):
        network(batch_of(read), use)[0].backward()
    counted = trained_flops(
        config,
        tokens=ROWS * LENGTH,
        sequence_tokens=LENGTH,
        read_share=read / LENGTH,
        activation_checkpointing=checkpointing,
        part=TrainedPart.of(config, trained),
    )
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)
