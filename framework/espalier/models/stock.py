"""Logits of stock transformers for a model folder opened by `from_pretrained`, to compare ours with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers.initialization import no_init_weights
from transformers.utils import logging

from espalier.data.packing import Row
from espalier.models.architecture import architecture
from espalier.models.build import stock_config
from espalier.models.families import family_of
from espalier.models.shape import ConfigDict


@torch.no_grad()
def stock_answers(
    folder: Path, rows: Sequence[Row], *, config: ConfigDict, as_stored: bool, body_only: bool = False
) -> list[Tensor]:
    """The logits of each row alone, float32 on the host; hidden states of a bare body.

    Args:
        folder: of a model, with safetensors.
        rows: of one document each.
        config: names the class.
        as_stored: whether the folder's own config.json counts; otherwise `config` does, as for a new head.
        body_only: give the hidden states before the head, where the folder has no trained one.
    """
    model_class = getattr(transformers, architecture(config))  # from our tables, never a name from a file
    settings = {} if as_stored else {"config": stock_config(config)}
    with _quiet(), torch.random.fork_rng(devices=[]):
        model = model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **settings,
        ).eval()
        _compute_buffers(model, model_class)
        asked = model.base_model if body_only else model
        inputs = family_of(config).inputs
        return [_answer(asked, row, inputs) for row in rows]


def _compute_buffers(model: transformers.PreTrainedModel, model_class: type[transformers.PreTrainedModel]) -> None:
    """Give buffers that no file holds, such as RoPE's frequencies, the values that stock code computes for them.

    In a process that has trained at level `parameters` and was forked, `from_pretrained` (5.23) leaves them
    uninitialised. The second model costs address space only: nothing ever writes its parameters.
    """
    with no_init_weights():
        computed = dict(model_class(model.config).named_buffers())
    stored = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name not in stored:
            buffer.copy_(computed[name])


def _answer(model: torch.nn.Module, row: Row, inputs: Sequence[str]) -> Tensor:
    ids = torch.from_numpy(row.input_ids)[None]
    known = {name: torch.from_numpy(row.token_columns[name])[None] for name in inputs if name in row.token_columns}
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True, **known)
    return (outputs.logits if "logits" in outputs else outputs.last_hidden_state)[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and load reports of transformers; the caller reports what differs."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
