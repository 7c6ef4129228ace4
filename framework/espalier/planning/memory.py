"""The memory of one worker, before anything runs: student and teacher together at their ZeRO levels.

The terms are counted from shapes. What cannot be counted (workspaces of kernels, the allocator's rounding) is one
constant, measured; `tests/benchmarks/gpu_distill.py` holds the sum against what a GPU reports.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from espalier.config.training import ZeroLevel
from espalier.engine.sizes import BUCKET_ELEMENTS
from espalier.models.shape import ModelShape
from espalier.objectives.sizes import MEMORY_BYTES

LIVE_PARAMETER_ELEMENTS = 100_000_000
"""At level parameters, whole parameters that may be gathered at once, beside the layer that runs."""

_RUNTIME_BYTES = 64 * 2**20  # cuBLAS workspaces, small buffers


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes of one worker at the peak of a step."""

    weights: float
    gradients: float
    masters: float
    moments: float
    activations: float
    loss_head: float
    teacher: float
    buffers: float

    @property
    def total(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Training:
    """How a stage trains, as far as memory depends on it.

    Attributes:
        value_bytes: of one weight while computing: 2 in bfloat16, 4 in float32.
    """

    zero_level: ZeroLevel
    ranks: int
    value_bytes: int
    microbatch_tokens: int
    on_gpu: bool
    activation_checkpointing: bool = False
    offload: bool = False


def student_memory(shape: ModelShape, num_parameters: int, training: Training) -> WorkerMemory:
    """Peak of a student's step; the teacher is added by `with_teacher`."""
    n, ranks, value = num_parameters, training.ranks, training.value_bytes
    level = training.zero_level
    shared = {"none": 1, "optimizer": ranks, "gradients": ranks, "parameters": ranks}[level]
    on_device = 0 if training.offload else 1
    masters_are_weights = level == "none" and value == 4
    return WorkerMemory(
        weights=value * n / (ranks if level == "parameters" else 1),
        gradients=_gradient_bytes(n, level=level, ranks=ranks, value_bytes=value),
        masters=0 if masters_are_weights else on_device * 4 * n / shared,
        moments=on_device * 8 * n / shared,
        activations=_activation_bytes(shape, training),
        loss_head=_loss_head_bytes(shape, training),
        teacher=0,
        buffers=_RUNTIME_BYTES + _buffer_bytes(n, level=level, value_bytes=value),
    )


def teacher_memory(
    shape: ModelShape, num_parameters: int, *, zero_level: ZeroLevel, ranks: int, value_bytes: int
) -> float:
    """Bytes that a frozen teacher holds on one worker during the student's step."""
    if zero_level == "none":
        return value_bytes * num_parameters
    head = value_bytes * shape.vocabulary * shape.hidden  # whole while the student's objective runs
    return value_bytes * (num_parameters / ranks + min(num_parameters, LIVE_PARAMETER_ELEMENTS)) + head


def _gradient_bytes(n: int, *, level: ZeroLevel, ranks: int, value_bytes: int) -> float:
    """Float32 sums over the window; in bf16 a microbatch's own gradients beside them where they are kept whole."""
    if level == "none":
        return 4 * n if value_bytes == 4 else (4 + value_bytes) * n
    if level == "optimizer":
        return 4 * n
    return 4 * n / ranks


def _buffer_bytes(n: int, *, level: ZeroLevel, value_bytes: int) -> float:
    if level == "none":
        return 0
    bucket = 2 * value_bytes * min(n, BUCKET_ELEMENTS)
    live = value_bytes * min(n, LIVE_PARAMETER_ELEMENTS) if level == "parameters" else 0
    return bucket + live


def _activation_bytes(shape: ModelShape, training: Training) -> float:
    """What one microbatch keeps for its backward: all layers' intermediates, or every layer's input and one layer's."""
    value, tokens = training.value_bytes, training.microbatch_tokens
    attention = (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim * value
    norms = 2 * (4 + 2 * value) * shape.hidden  # float32 copy, normalised, scaled: of both norms
    mlp = 4 * shape.ffn * value
    layer = tokens * (attention + norms + mlp + 2 * shape.hidden * value)
    if training.activation_checkpointing:
        return shape.layers * tokens * shape.hidden * value + layer
    return shape.layers * layer


def _loss_head_bytes(shape: ModelShape, training: Training) -> float:
    """A chunk's logits, and the float32 sum of the head's gradient with its copy in the model's format."""
    chunk = MEMORY_BYTES["cuda" if training.on_gpu else "cpu"]
    return chunk + shape.vocabulary * shape.hidden * (4 + training.value_bytes)
