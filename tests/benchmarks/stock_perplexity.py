"""Stock transformers on what a run exported, beside the perplexity that the run reported.

python tests/benchmarks/stock_perplexity.py RUN_FOLDER
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from espalier.data.packing import NO_LABEL
from espalier.data.sequences import open_sequences
from espalier.jobs.recipe import stages_of
from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.kinds.export.kind import ExportStage
from espalier.models.pretrained import PretrainedTokenizer
from espalier.stages.run_folder import RunFolder


def main() -> None:
    """One line per export that an evaluation measured."""
    folder = RunFolder(Path(sys.argv[1]).resolve())
    job = folder.read_job()
    exports = [stage for stage in stages_of(job) if isinstance(stage, ExportStage)]
    for stage in stages_of(job):
        for export in exports:
            if isinstance(stage, EvaluateStage) and export.model == stage.model:
                found, tokens = measure(folder, export.name, stage.sequences)
                result = folder.result(stage.name)
                assert result is not None
                told = result.metrics["models"][stage.model]
                print(f"{export.name}: stock {found:.4f} over {tokens:,} tokens, reported {told['perplexity']:.4f}")


def measure(folder: RunFolder, export: str, num_sequences: int | None) -> tuple[float, int]:
    """Perplexity and tokens of an exported model, float32, by the model's own forward and torch's own loss."""
    path = folder.export(export)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    tokenizer = PretrainedTokenizer(path)
    sequences = open_sequences(folder.read_job().data, "valid", tokenizer=tokenizer, cache=folder.cache)
    nats, tokens = 0.0, 0
    num_rows = len(sequences) if num_sequences is None else min(num_sequences, len(sequences))
    for row in map(sequences.row, range(num_rows)):
        for document in np.unique(row.documents):
            inside = row.documents == document
            ids, labels = torch.from_numpy(row.input_ids[inside]), torch.from_numpy(row.labels[inside])
            with torch.no_grad():
                logits = model(ids[None]).logits[0]
            nats += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            tokens += int((labels != NO_LABEL).sum())
    return math.exp(nats / tokens), tokens


if __name__ == "__main__":
    main()
