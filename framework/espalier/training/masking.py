"""Masked language modelling: choose tokens to mask and predict (BERT, arXiv 1810.04805, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from espalier.config.faults import Fault, RefusedInput
from espalier.data.batch import NO_LABEL, Batch
from espalier.distributed.streams import stream_seed
from espalier.models.architecture import is_masked_lm
from espalier.models.pretrained import PretrainedTokenizer
from espalier.models.shape import ConfigDict


@dataclass(frozen=True)
class Masking:
    """Selects a share of each row's tokens: 80 % become the mask token, 10 % a random token, 10 % stay.

    The selection is a function of the seed, the step and the sample's id, so it does not depend on workers,
    microbatches or resumes. The number of selected tokens depends on the row's length alone.

    Attributes:
        share: of a row's tokens without special ones; at least one token is selected.
        mask_id: the mask token; special_ids: tokens that are never selected.
        vocabulary: random tokens have ids below it.
    """

    share: float
    mask_id: int
    special_ids: tuple[int, ...]
    vocabulary: int
    seed: int

    @staticmethod
    def of(model: ConfigDict, tokenizer: PretrainedTokenizer, *, share: float, seed: int) -> Masking | None:
        """The masking of a masked language model; None for other models.

        Raises:
            RefusedInput: its tokenizer has no mask token.
        """
        if not is_masked_lm(model):
            return None
        if tokenizer.mask_id is None:
            raise RefusedInput(
                [Fault("tokenizer", tokenizer.key, "one with a mask token, as the model fills in masks")]
            )
        special = tuple(dict.fromkeys((*tokenizer.begin_ids, *tokenizer.end_ids)))
        return Masking(share, tokenizer.mask_id, special, tokenizer.vocabulary, seed)

    def apply(self, batch: Batch, step: int) -> Batch:
        """Mask the selected tokens of a batch; their original ids become the labels, other tokens have none.

        Args:
            step: of the random stream; 0 for an evaluation.
        """
        ids, labels = batch.input_ids.clone(), torch.full_like(batch.input_ids, NO_LABEL)
        there = torch.ones_like(ids, dtype=torch.bool) if batch.documents is None else batch.documents >= 0
        for special in self.special_ids:
            there &= ids != special
        for row, sample in enumerate(batch.sample_ids.tolist()):
            places = there[row].nonzero().squeeze(-1).numpy()
            if len(places) == 0:
                continue
            draw = np.random.Generator(np.random.Philox(stream_seed(self.seed, "masking", step, sample)))
            hidden = draw.choice(places, max(1, round(self.share * len(places))), replace=False)
            labels[row, hidden] = batch.input_ids[row, hidden]
            ids[row, hidden] = self._shown(batch.input_ids[row, hidden], draw)
        return replace(batch, input_ids=ids, labels=labels)

    def _shown(self, words: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        kinds = torch.from_numpy(draw.random(len(words)))
        others = torch.from_numpy(draw.integers(self.vocabulary, size=len(words)))
        return torch.where(kinds < 0.8, self.mask_id, torch.where(kinds < 0.9, others, words))
