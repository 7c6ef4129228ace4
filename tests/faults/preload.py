"""What every rank needs, imported once: ranks are forked, and an attempt costs its work alone.

Importing this module starts no thread and no process, and touches no GPU.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

# Read when libraries are imported: a fork must not inherit threads, and the runs are CPU runs wherever they are made.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

_LAZY = (
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # compiles at its import, for which torch loads half of itself
    "deepspeed.runtime.zero.stage3",
    "deepspeed.runtime.zero.stage_1_and_2",
    "espalier.worker.run_stage",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
)


def preload() -> None:
    """Import all of it, and let no collection of garbage look at it again."""
    sys.modules["mlflow"] = None  # type: ignore[assignment]  # DeepSpeed imports it where it is; it starts threads
    for name in _LAZY:
        importlib.import_module(name)
    # Asks once which operators can be built, which calls compilers; this one is not wanted (0.19.8).
    importlib.import_module("deepspeed").ops.__compatible_ops__["deepspeed_shm_comm"] = False
    assert len(os.listdir("/proc/self/task")) == 1, "a thread was started: ranks cannot be forked from here"
    gc.collect()
    gc.freeze()
