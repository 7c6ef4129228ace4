"""Settings of training stages: optimizer, batch, budget, checkpoints, guard, validation."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from espalier.config.base import EXECUTION, Config, Count, Share, Words, parse_tuple
from espalier.config.exact import as_written, multiple_rounded_up, product, rounded_part
from espalier.config.faults import Fault, RefusedInput

ZeroLevel = Literal["none", "optimizer", "gradients", "parameters"]
"""What ZeRO shards: nothing, optimizer state, also gradients, also parameters (DeepSpeed's stages 0 to 3)."""


class SchedulePart(Config):
    """The part of a learning-rate schedule that a stage takes, as shares of the whole, for one schedule over stages.

    The order of the text and the random streams of depth sampling, masks and dropout also continue where the part
    before stopped.
    """

    start: Share
    end: Share
    rewarm: Share = 0.0
    """The share of this stage's steps, at its start, in which the rate rises to that of the schedule."""

    @model_validator(mode="after")
    def _ascends(self) -> SchedulePart:
        if self.end <= self.start:
            raise RefusedInput([Fault("end", self.end, f"above start {self.start:g}")])
        return self


_Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimizerConfig(Config):
    """AdamW and the schedule of its learning rate. Norms, biases and other vectors are never decayed."""

    lr: Annotated[float, Field(ge=1e-10, le=10.0)]
    schedule: Literal["cosine", "wsd", "linear", "constant"] = "cosine"
    warmup: Share = 0.02
    """The share of the steps at the start in which the rate rises."""
    decay: Share = 0.2
    """wsd only: the share of the steps at the end in which the rate falls."""
    final_lr_ratio: Share = 0.1
    part: SchedulePart | None = None
    """When left out, the stage has its own schedule."""
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.1
    betas: Annotated[tuple[_Beta, _Beta], BeforeValidator(parse_tuple)] = (0.9, 0.95)
    eps: Annotated[float, Field(ge=1e-16, le=1.0)] = 1e-8
    clip: Annotated[float, Field(ge=1e-6, le=1e9)] = 1.0
    """The norm to which gradients are clipped."""
    layer_decay: Annotated[float, Field(ge=0.01, le=1.0)] = 1.0
    """Layer-wise decay: each layer's rate is that of the layer above times this; the head has the full rate."""
    offload: Annotated[bool, EXECUTION] = False
    """Keep the optimizer's state in host memory."""

    @model_validator(mode="after")
    def _phases_fit(self) -> OptimizerConfig:
        if self.schedule == "wsd" and as_written(self.warmup) + as_written(self.decay) > 1:
            most = float(1 - as_written(self.warmup))
            allowed = f"at most {most:g}, as warmup {self.warmup:g} and decay share the steps"
            raise RefusedInput([Fault("decay", self.decay, allowed)])
        return self


class BatchConfig(Config):
    """Sequences in one step over all workers, and in one forward pass of one worker."""

    sequences: Count
    microbatch_sequences: Annotated[Count, EXECUTION] = 1

    @model_validator(mode="after")
    def _divides(self) -> BatchConfig:
        if self.sequences % self.microbatch_sequences:
            allowed = f"a multiple of microbatch_sequences {self.microbatch_sequences}"
            raise RefusedInput([Fault("sequences", self.sequences, allowed)])
        return self


class BudgetConfig(Config):
    """How long to train: tokens, steps, or epochs over the training samples. Exactly one."""

    tokens: Count | None = None
    steps: Count | None = None
    epochs: Annotated[float, Field(gt=0.0, le=10**6)] | None = None

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        given = [name for name in ("tokens", "steps", "epochs") if getattr(self, name) is not None]
        if not given:
            raise RefusedInput([Fault("tokens", None, "one of tokens, steps and epochs")])
        if len(given) > 1:
            allowed = f"leave it out, as {given[0]} is given, or give {given[1]} alone"
            raise RefusedInput([Fault(given[1], getattr(self, given[1]), allowed)])
        return self

    def part(self, share: float) -> BudgetConfig:
        """A share of the budget; at least one step or token."""
        if self.epochs is not None:
            return BudgetConfig(epochs=product(share, self.epochs))
        if self.steps is not None:
            return BudgetConfig(steps=max(1, rounded_part(share, self.steps)))
        assert self.tokens is not None
        return BudgetConfig(tokens=max(1, rounded_part(share, self.tokens)))

    def num_steps(self, *, sequences: int, sequence_tokens: int, num_samples: int) -> int:
        """Steps of `sequences` sequences that the budget buys, rounded up.

        Args:
            num_samples: of an epoch.
        """
        if self.steps is not None:
            return self.steps
        if self.tokens is not None:
            return -(-self.tokens // (sequences * sequence_tokens))
        assert self.epochs is not None
        return multiple_rounded_up(self.epochs, num_samples, per=sequences)


def parse_steps(value: Any) -> Any:
    """Read `500 steps` as 500."""
    written = re.fullmatch(r"([0-9]{1,15}) steps?", value) if isinstance(value, str) else None
    return int(written[1]) if written else value


class CheckpointConfig(Config):
    """Checkpoints inside a stage. The end of a stage is always saved."""

    every: Annotated[
        Count,
        BeforeValidator(parse_steps),
        Words("in steps, also written 500 steps"),
        WithJsonSchema({"type": ["integer", "string"], "exclusiveMinimum": 0, "pattern": "^[0-9]+ steps?$"}),
    ] = 500
    """In steps."""
    keep_latest: Count = 2
    in_background: bool = True
    """Continue training while files are written; each worker then keeps a copy of its part in host memory."""
    on_failure: Literal["stop", "go_on"] = "stop"
    """What to do when a file cannot be written, as on a full disk. A failure to write the stage's last checkpoint or
    that of its best epoch always stops the run."""


Remedy = Literal["stop", "skip", "roll_back"]


class GuardConfig(Config):
    """The guard against bad steps: NaN, infinity and loss spikes.

    `stop` ends the run. The other remedies go back to the newest checkpoint and repeat the steps after it: `skip`
    without the bad step, `roll_back` without all steps from the checkpoint to the bad one.
    """

    nan: Remedy = "stop"
    """The loss or the gradient's norm is NaN or infinite."""
    spike: Remedy = "stop"
    spike_ratio: Annotated[float, Field(gt=1.0)] | None = None
    """A spike is a loss above this multiple of the median of the last 64 steps; no check when left out."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 5
    """The number of bad steps in one stage after which the run stops."""


Pattern = Annotated[
    str,
    Field(min_length=1, max_length=256),
    Words("a shell pattern such as *.q_proj.*, in which * stands for anything, dots too"),
]
"""Over names of parameters, as `model.layers.3.self_attn.q_proj.weight`."""


class TuneConfig(Config):
    """What of the student is trained. The rest stays as it is, has no optimizer state, and is not saved again.

    In bfloat16 what is not trained is computed with as it is stored, rounded once, as every weight is; what is saved
    still stands on the stored values.
    """

    only: Annotated[tuple[Pattern, ...], BeforeValidator(parse_tuple), Field(min_length=1)]
    """The parameters with a name that fits one of these. Tied parameters are one, which has all of their names."""


class ValidationConfig(Config):
    """Validation at the end of each epoch over labelled data."""

    keep: Literal["best", "last"] = "best"
    """The epoch whose model is the stage's: the best by `data.metric`, or the last."""
    patience: Count | None = None
    """Early stopping: end the stage after this number of epochs without a better one; never when left out."""
