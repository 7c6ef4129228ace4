"""FLOPs of a training stage as a function of the step, for its records and its result.

The plan uses the same formulas with the expected depth of depth sampling; here the depths that were drawn are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from espalier.config.growth import DepthSamplingConfig
from espalier.jobs.kind import KINDS
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.families import shape_of
from espalier.models.flops import model_flops, read_share, trained_flops
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart
from espalier.training.depth_sampling import window_depths


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of a training stage by step, computed and not counted, so that resuming needs no state.

    Attributes:
        model, teacher: configurations; teacher None without one.
        seed: of the job.
        first_step: of the stage, where it takes a part of a schedule that earlier stages began: draws go on.
    """

    stage: TrainedStage
    model: ConfigDict
    teacher: ConfigDict | None
    seed: int
    sequence_tokens: float
    num_steps: int
    first_step: int = 0

    @cached_property
    def part(self) -> TrainedPart | None:
        """What is trained; None for all of the model."""
        part: TrainedPart | None = KINDS[self.stage.kind].call("trains")(self.stage, self.model, self.teacher)
        return part

    @property
    def depth_sampling(self) -> DepthSamplingConfig | None:
        """The stage's setting; None where each microbatch runs all layers once."""
        return getattr(self.stage, "depth_sampling", None)

    def depths(self, step: int) -> tuple[int, ...]:
        """Number of layers that each microbatch of a step runs, over all workers; empty without depth sampling.

        Args:
            step: 0 is the stage's first.
        """
        sampling = self.depth_sampling
        if sampling is None:
            return ()
        number = self.stage.batch.sequences // self.stage.batch.microbatch_sequences
        return window_depths(
            sampling,
            held=shape_of(self.model).layers,
            seed=self.seed,
            step=self.first_step + step,
            num_microbatches=number,
        )

    def flops(self, num_steps: int) -> float:
        """FLOPs of the first `num_steps` steps: the student's forward and backward, the teacher's forward."""
        return num_steps * self._step_flops(0.0) + self._layer_steps[num_steps] * self._per_layer

    @cached_property
    def _layer_steps(self) -> list[float]:
        """[n] the sum of the mean depths of the first n steps."""
        held = float(shape_of(self.model).layers)
        drawn = (self.depths(step) for step in range(self.num_steps))
        return [0.0, *accumulate(sum(depths) / len(depths) if depths else held for depths in drawn)]

    @cached_property
    def _per_layer(self) -> float:
        return self._step_flops(1.0) - self._step_flops(0.0)

    def _step_flops(self, layers: float) -> float:
        tokens = round(self.stage.batch.sequences * self.sequence_tokens)
        share = read_share(self.model, self.stage.masked_share)
        flops = trained_flops(
            self.model,
            tokens=tokens,
            sequence_tokens=self.sequence_tokens,
            layers=layers,
            read_share=share,
            activation_checkpointing=self.stage.activation_checkpointing,
            part=self.part,
        )
        if self.teacher is not None:
            flops += model_flops(self.teacher, tokens=tokens, sequence_tokens=self.sequence_tokens, read_share=share)
        return flops
