"""Estimate the memory of one worker from shapes: student and teacher together at their ZeRO levels.

What cannot be computed (workspaces of kernels, the allocator's rounding) is one measured constant;
`tests/benchmarks/gpu_distill.py` compares the sum with what a GPU reports.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from espalier.config.training import ZeroLevel
from espalier.engine.sizes import BUCKET_ELEMENTS
from espalier.models.forward_order import (
    ATTENTION_OUT,
    FFN_IN,
    FFN_OUT,
    FIRST_NORM,
    LAST_NORM,
    MIDDLE_NORM,
    QUERY_KEY_VALUE,
)
from espalier.models.shape import ModelShape
from espalier.models.trained_part import TrainedPart
from espalier.objectives.sizes import (
    BLOCK_BYTES,
    FUSED_GRADIENT_BYTES,
    default_chunk_size,
    fused_block_size,
    fused_chunk_size,
)

LIVE_PARAMETER_ELEMENTS = 100_000_000
"""At level parameters, the most whole parameters that are gathered at a time, beside the running layer."""

_RUNTIME_BYTES = 64 * 2**20  # cuBLAS workspaces, small buffers


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes of one worker at the peak of a step, by use."""

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
    """The settings of a training stage that memory depends on.

    Attributes:
        value_bytes: of one weight while computing: 2 in bfloat16, 4 in float32.
        has_teacher: whether a teacher's logits stand beside the student's in the loss.
    """

    zero_level: ZeroLevel
    ranks: int
    value_bytes: int
    microbatch_tokens: int
    on_gpu: bool
    activation_checkpointing: bool = False
    offload: bool = False
    has_teacher: bool = False


def student_memory(
    shape: ModelShape, num_parameters: int, training: Training, part: TrainedPart | None = None
) -> WorkerMemory:
    """Peak memory of a student's step; `with_teacher` adds the teacher.

    Args:
        shape: with as many layers as a pass runs at most.
        num_parameters: of the model.
        part: what is trained; None for all of the model. The rest is weights alone.
    """
    trained, ranks, value = part.num_parameters if part else num_parameters, training.ranks, training.value_bytes
    held, level = num_parameters + (part.num_added_parameters if part else 0), training.zero_level
    shared = {"none": 1, "optimizer": ranks, "gradients": ranks, "parameters": ranks}[level]
    on_device = 0 if training.offload else 1
    masters_are_weights = level == "none" and value == 4
    return WorkerMemory(
        weights=value * held / (ranks if level == "parameters" else 1),
        gradients=_gradient_bytes(trained, level=level, ranks=ranks, value_bytes=value),
        masters=0 if masters_are_weights else on_device * 4 * trained / shared,
        moments=on_device * 8 * trained / shared,
        activations=_activation_bytes(shape, training, part),
        loss_head=_loss_head_bytes(shape, training, is_trained=part is None or part.trains_head),
        teacher=0,
        buffers=_RUNTIME_BYTES + _buffer_bytes(held, trained, level=level, value_bytes=value),
    )


def teacher_memory(
    shape: ModelShape, num_parameters: int, *, zero_level: ZeroLevel, ranks: int, value_bytes: int
) -> float:
    """Bytes that a frozen teacher holds on one worker during the student's step."""
    if zero_level == "none":
        return value_bytes * num_parameters
    head = value_bytes * shape.vocabulary * shape.hidden  # the whole head is gathered while the objective runs
    return value_bytes * (num_parameters / ranks + min(num_parameters, LIVE_PARAMETER_ELEMENTS)) + head


def _gradient_bytes(n: int, *, level: ZeroLevel, ranks: int, value_bytes: int) -> float:
    """Float32 sums over the window; in bfloat16 also a microbatch's own gradients where they are not sharded."""
    if level == "none":
        return 4 * n if value_bytes == 4 else (4 + value_bytes) * n
    if level == "optimizer":
        return 4 * n
    return 4 * n / ranks


def _buffer_bytes(n: int, trained: int, *, level: ZeroLevel, value_bytes: int) -> float:
    if level == "none":
        return 0
    bucket = 2 * value_bytes * min(trained, BUCKET_ELEMENTS)
    live = value_bytes * min(n, LIVE_PARAMETER_ELEMENTS) if level == "parameters" else 0
    return bucket + live


def _activation_bytes(shape: ModelShape, training: Training, part: TrainedPart | None) -> float:
    """Activations of a microbatch, and what additions keep of it."""
    if part is None:
        return _whole_bytes(shape, training)
    of_model = _whole_bytes(shape, training) if part.is_whole_model else _part_bytes(shape, training, part)
    within, outside = part.added_inputs()
    kept = within / (part.layers or 1) if training.activation_checkpointing else within * shape.layers / part.num_layers
    return of_model + training.microbatch_tokens * training.value_bytes * (kept + outside)


def _whole_bytes(shape: ModelShape, training: Training) -> float:
    """Activations of a microbatch: of all layers, or with checkpointing all inputs and one layer's intermediates."""
    value, tokens = training.value_bytes, training.microbatch_tokens
    attention = (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim * value
    norms = 2 * (4 + 2 * value) * shape.hidden  # float32 copy, normalised, scaled: of both norms
    mlp = 4 * shape.ffn * value
    layer = tokens * (attention + norms + mlp + 2 * shape.hidden * value)
    if training.activation_checkpointing:
        return shape.layers * tokens * shape.hidden * value + layer
    return shape.layers * layer


def _part_bytes(shape: ModelShape, training: Training, part: TrainedPart) -> float:
    """Activations where a part is trained: none of the layers below it, and no inputs of frozen matrices.

    Attention, norms and gates keep their inputs whatever is trained. At level parameters DeepSpeed's linear map
    replaces torch's, and keeps its input even where its matrix is frozen.
    """
    with_input = part.num_layers_from if training.zero_level == "parameters" else part.num_layers_with
    value, tokens, repeated = training.value_bytes, training.microbatch_tokens, shape.layers / part.num_layers
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    kept = part.num_layers_from(FIRST_NORM) * 4 * shape.hidden + part.num_layers_from(MIDDLE_NORM) * 4 * shape.hidden
    kept += part.num_layers_from(QUERY_KEY_VALUE) * (2 * queries + 2 * keys) * value
    kept += part.num_layers_from(FFN_IN) * 3 * shape.ffn * value
    kept += with_input(FFN_OUT) * shape.ffn * value
    kept += with_input(ATTENTION_OUT) * queries * value
    kept += (with_input(QUERY_KEY_VALUE) + with_input(FFN_IN)) * shape.hidden * value
    norms = (part.num_layers_with(place) for place in (FIRST_NORM, MIDDLE_NORM, LAST_NORM))
    kept += sum(norms) * shape.hidden * value
    if not training.activation_checkpointing:
        return repeated * tokens * kept
    return repeated * tokens * part.layers * shape.hidden * value + tokens * kept / max(1, part.layers)


def _loss_head_bytes(shape: ModelShape, training: Training, *, is_trained: bool) -> float:
    """A chunk's logits; for a trained head also its gradient's float32 sum and a copy in the model's dtype.

    Of a chunk there are three float32 tensors of logits: the student's, their gradient, the teacher's. Without a
    teacher the third is not there, and what is derived from a block of them counts instead. The fused kernel of a GPU
    leaves the gradient of a chunk in bfloat16, and logits of a block.
    """
    device = "cuda" if training.on_gpu else "cpu"
    if training.on_gpu and training.value_bytes == FUSED_GRADIENT_BYTES:
        rows = min(fused_chunk_size(shape.vocabulary), training.microbatch_tokens)
        block = 4 * min(fused_block_size(shape.vocabulary), rows) * shape.vocabulary
        chunk = FUSED_GRADIENT_BYTES * rows * shape.vocabulary + (1 + training.has_teacher) * block
    else:
        rows = min(default_chunk_size(device, shape.vocabulary), training.microbatch_tokens)
        of_one = 4 * rows * shape.vocabulary
        chunk = 3 * of_one if training.has_teacher else 2 * of_one + min(of_one, BLOCK_BYTES[device])
    return chunk + is_trained * shape.vocabulary * shape.hidden * (4 + training.value_bytes)
