"""The model card of an export: the model, its lineage and its measurements."""

from __future__ import annotations

from espalier.checkpoint.read import StateReader
from espalier.jobs.kind import KINDS
from espalier.jobs.recipe import stages_of
from espalier.kinds.export.markdown import as_code, as_text
from espalier.models.families import num_parameters, shape_of, stock_class
from espalier.models.shape import ConfigDict
from espalier.stages.run_folder import RunFolder
from espalier.tracking.number_format import number_text


def model_card(folder: RunFolder, model: StateReader) -> str:
    """Write the card as Markdown, with the front matter that the hub reads."""
    origin = model.manifest.origin
    shape = shape_of(origin.model)
    lines = [
        "---",
        "library_name: transformers",
        f"tags: [{', '.join(['espalier', *_made_by(folder)])}]",
        "---",
        f"# {folder.read_job().name}",
        "",
        f"{num_parameters(origin.model):,} parameters: {shape.layers} layers, hidden {shape.hidden}, FFN {shape.ffn}, "
        f"{shape.heads} query heads over {shape.kv_heads} key-value heads, vocabulary {shape.vocabulary:,}.",
        f"Made with espalier. Load it with `{_loader(origin.model)}.from_pretrained`.",
        "",
        "## Lineage",
        "",
        "| stage | kind | from | parameters | tokens |",
        "|---|---|---|---|---|",
        *_lineage(folder),
        *_measured(folder),
        "",
    ]
    return "\n".join(lines)


def _loader(config: ConfigDict) -> str:
    """The transformers class that loads the model."""
    return {
        "none": "AutoModel",
        "causal_lm": "AutoModelForCausalLM",
        "masked_lm": "AutoModelForMaskedLM",
        "classifier": "AutoModelForSequenceClassification",
    }[stock_class(config).head_kind]


def _made_by(folder: RunFolder) -> list[str]:
    """A tag for each kind of stage that changed a model."""
    done = {stage.kind for stage in stages_of(folder.read_job()) if folder.result(stage.name) is not None}
    return [kind.past for kind in KINDS.values() if kind.name in done and kind.makes_model and not kind.source]


def _lineage(folder: RunFolder) -> list[str]:
    rows = []
    for stage in stages_of(folder.read_job()):
        result = folder.result(stage.name)
        if result is None or not KINDS[stage.kind].yields:
            continue
        source = ", ".join(stage.inputs().values()) or as_code(getattr(stage, "model", None) or "random weights")
        parameters = f"{result.metrics.get('parameters', 0):,}"
        rows.append(f"| {stage.name} | {stage.kind} | {source} | {parameters} | {result.cost.tokens:,} |")
    return rows


def _measured(folder: RunFolder) -> list[str]:
    """A row for each model that an evaluation measured: perplexity of text, or the metric of labelled data."""
    tables: dict[str, list[str]] = {}
    for stage in stages_of(folder.read_job()):
        result = folder.result(stage.name)
        if result is not None and (measured := result.measured) is not None:
            measure = measured.deciding
            for name, row in measured.models.items():
                sizes = [f"{row.get(size, 0):,}" for size in ("parameters", "tokens")]
                line = f"| {as_text(name)} | {sizes[0]} | {_figure(row.get(measure))} | {sizes[1]} |"
                tables.setdefault(measure, []).append(line)
    lines = ["", "## Measured"] if tables else []
    for measure, rows in tables.items():
        lines += ["", f"| model | parameters | {measure} | tokens |", "|---|---|---|---|", *rows]
    return lines


def _figure(value: object) -> str:
    return number_text(value) if isinstance(value, int | float) else "inf"
