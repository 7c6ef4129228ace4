"""Settings of a stage that trains: losses, optimizer, batch, budget, saving."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Count, Share, parse_tuple

ZeroLevel = Literal["none", "optimizer", "gradients", "parameters"]
"""What ZeRO shards: nothing, optimizer state, gradients too, parameters too (DeepSpeed's 0 to 3)."""

LossFunction = Literal["cross_entropy", "forward_kl", "reverse_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl"]


class LossConfig(Config):
    """One term of the weighted sum. `beta` belongs to jsd, `skew` to the skewed divergences."""

    function: LossFunction
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    skew: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1


class OptimizerConfig(Config):
    """AdamW and the schedule of its learning rate. Norms, biases and other vectors are never decayed."""

    lr: Annotated[float, Field(gt=0.0)]
    schedule: Literal["cosine", "wsd", "linear", "constant"] = "cosine"
    warmup: Share = 0.02
    decay: Share = 0.2  # wsd only: the share of the steps at the end in which the rate falls
    final_lr_ratio: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    betas: Annotated[tuple[float, float], BeforeValidator(parse_tuple)] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    offload: bool = False


class BatchConfig(Config):
    """Sequences in one step over all workers, and in one forward pass of one worker."""

    sequences: Count
    microbatch_sequences: Count = 1

    @model_validator(mode="after")
    def _divides(self) -> BatchConfig:
        if self.sequences % self.microbatch_sequences:
            raise ValueError(
                f"`sequences` {self.sequences} is no multiple of `microbatch_sequences` {self.microbatch_sequences}"
            )
        return self


class BudgetConfig(Config):
    """How long to train: tokens, or steps. Exactly one."""

    tokens: Count | None = None
    steps: Count | None = None

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("give either `tokens` or `steps`")
        return self

    def num_steps(self, step_tokens: int) -> int:
        """Steps that the budget buys at `step_tokens` tokens a step, rounded up."""
        return self.steps if self.steps is not None else -(-self.tokens // step_tokens)


class CheckpointConfig(Config):
    """Saving inside a stage. A stage's end is always saved. `every` is in steps."""

    every: Count = 500
    keep_latest: Count = 2
