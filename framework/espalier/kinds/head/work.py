"""Stage `head`: write the body of a committed model with a new head."""

from __future__ import annotations

from itertools import chain

from espalier.distributed.streams import stream_seed
from espalier.kinds.head.kind import HeadStage
from espalier.models.families import num_parameters
from espalier.models.initial import drawn
from espalier.models.new_head import new_head
from espalier.saving.states import Lineage, save_model, whole_fragments
from espalier.stages.result import StageResult
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost


def run(context: StageContext[HeadStage]) -> StageResult:
    """Write the model on rank zero, tensor by tensor; other workers wait. Collective."""
    stage, labelled = context.config, context.labelled
    assert labelled is not None
    student = context.model_of(stage.student)
    made = new_head(
        student.manifest.origin.model,
        names=labelled.names,
        padding_id=context.tokenizer().padding_id,
        setting=f"stages.{stage.name}.student",
    )
    kept = ((name, student.tensor("parameter", old)) for name, old in made.sources.items())
    seed = context.job.seed
    fresh = drawn(made.config, made.fresh, seed_of=lambda name: stream_seed(seed, f"fresh {name}"))
    folder = save_model(context, whole_fragments(chain(kept, fresh)), Lineage.after(student, model=made.config))
    metrics = {"parameters": num_parameters(made.config), "fresh": list(made.fresh)}
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, stage_cost(context))
