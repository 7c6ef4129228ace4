"""How long training waits for a save, beside torch.save and DCP's asynchronous save at its best settings.

    python tests/benchmarks/save_stall.py [--layers 18] [--folder FOLDER] [--saves 3] [--only TEXT]

One GPU, one process, real steps (forward, backward, AdamW) of a Llama in bf16 with float32 masters and moments, which
are what is saved: 12 bytes a parameter. The stall of a save is all the time by which the steps from its begin to the
end of its writing (at least ten) took longer than as many of the median of the twelve before it, whatever the cause:
copies, the interpreter's lock, memory traffic. The disk is brought to rest before each save. The first save of a
method makes its buffers; espalier begins that with the first step, so its first save here comes after a few.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.training import OptimizerConfig
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.adamw import rate_scales
from espalier.engine.objective import TokenObjective
from espalier.engine.plain import PlainEngine
from espalier.models.build import build_network
from espalier.models.families import layout, num_parameters
from espalier.objectives.terms import Term
from espalier.saving.host_staging import HostStaging
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step

SEQUENCES, LENGTH = 8, 1024
FEWEST_STEPS = 10
_CLOSES_STAGERS = torch.__version__ < "2.13"
"""torch 2.11's async_save leaves its caller's stager unusable after a save (KeyError): each save needs a new one."""


class Method(Protocol):
    """A way to save."""

    def start(self, folder: Path) -> None: ...

    def before_update(self) -> None: ...

    def is_done(self) -> bool: ...

    def close(self) -> None: ...


class Espalier:
    """A copy beside the next step, written, hashed, synced and committed by a thread."""

    def __init__(self, engine: PlainEngine, config: dict[str, Any], world: World) -> None:
        self._engine, self._config = engine, config
        self._staging = HostStaging(world.device)
        self._staging.prepare(engine.fragments())
        self._thread: threading.Thread | None = None

    def start(self, folder: Path) -> None:
        storage = LocalStorage(folder)
        begin(storage, "step-00000001", attempt=1)
        fragments = self._staging.take(self._engine.fragments())

        def write() -> None:
            self._staging.wait()
            written = write_fragments(storage, "step-00000001", fragments=fragments, rank=0, attempt=1)
            origin = Origin(stage="s", step=1, attempt=1, world_size=1, zero_level="none", model=self._config)
            shapes = {name: parameter.shape for name, parameter in layout(self._config).items()}
            commit(storage, "step-00000001", origin=origin, shapes=shapes, state={}, ranks=[written])

        self._thread = threading.Thread(target=write)
        self._thread.start()

    def before_update(self) -> None:
        self._staging.hold_update()

    def is_done(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def close(self) -> None:
        self._staging = HostStaging(torch.device("cpu"))


class TorchSave:
    """One file, while the steps wait. It is neither synced nor hashed."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self._state = state

    def start(self, folder: Path) -> None:
        torch.save(self._state, folder / "state.pt")

    def before_update(self) -> None: ...

    def is_done(self) -> bool:
        return True

    def close(self) -> None: ...


class Dcp:
    """torch.distributed.checkpoint.async_save: staged to pinned memory by a thread, beside the next step."""

    def __init__(self, state: dict[str, Tensor], *, staging: StagingOptions | None, process: bool) -> None:
        self._state, self._process = state, process
        self._staging = staging
        self._stager = DefaultStager(staging) if staging else None
        self._answer: Any = None

    def start(self, folder: Path) -> None:
        if self._staging is not None and self._answer is not None and _CLOSES_STAGERS:
            self._stager = DefaultStager(self._staging)
        kind = dcp.state_dict_saver.AsyncCheckpointerType
        writer = dcp.FileSystemWriter(folder, single_file_per_rank=True, sync_files=True, thread_count=4)
        self._answer = dcp.async_save(
            self._state,
            storage_writer=writer,
            async_stager=self._stager,
            async_checkpointer_type=kind.PROCESS if self._process else kind.THREAD,
        )

    def before_update(self) -> None:
        if self._answer is not None and hasattr(self._answer, "staging_completion"):
            self._answer.staging_completion.result()

    def is_done(self) -> bool:
        completion = getattr(self._answer, "upload_completion", self._answer)
        if completion is None or not completion.done():
            return completion is None
        completion.result()
        return True

    def close(self) -> None:
        if self._stager is not None:
            self._stager.close()


def main() -> None:
    """Measure every method in one process; print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--only", default="", help="methods whose name has this in it")
    asked = parser.parse_args()
    world = World.alone()
    config = _config(asked.layers, asked.hidden)
    step, engine = _training(config, world)
    for _ in range(5):
        step(lambda: None)
    state = {f"{one.slot}/{one.name}": one.values for one in engine.fragments()}
    num_bytes = sum(value.numel() * value.element_size() for value in state.values())
    print(f"{num_parameters(config):,} parameters, {num_bytes / 1e9:.1f} GB of state, {world.device}")
    pinned = world.device.type == "cuda"
    threads = StagingOptions(
        use_pinned_memory=pinned, use_shared_memory=False, use_async_staging=pinned, use_non_blocking_copy=pinned
    )
    shared = StagingOptions(
        use_pinned_memory=pinned, use_shared_memory=True, use_async_staging=pinned, use_non_blocking_copy=pinned
    )
    methods: dict[str, Callable[[], Method]] = {
        "espalier": lambda: Espalier(engine, config, world),
        "torch.save": lambda: TorchSave(state),
        "DCP async, defaults": lambda: Dcp(state, staging=None, process=False),
        "DCP async, pinned, staged beside": lambda: Dcp(state, staging=threads, process=False),
        "DCP async, pinned, own process": lambda: Dcp(state, staging=shared, process=True),
    }
    print(
        f"{'method':34}{'save':>5}{'step ms':>10}{'begin ms':>10}{'worst step ms':>15}{'stall ms':>10}"
        f"{'stall/step':>12}{'done s':>8}"
    )
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        for name, make in methods.items():
            if asked.only not in name:
                continue
            try:
                _measure(name, make(), step, Path(place), asked.saves)
            except Exception as error:  # a peer that cannot run here is told of, and the others go on
                print(f"{name:34}  did not run: {type(error).__name__}: {error}")


def _measure(name: str, method: Method, step: Callable[..., float], place: Path, saves: int) -> None:
    for save in range(1, saves + 1):
        os.sync()  # what the save before has left to be written
        usual = _usual(step)
        folder = Path(tempfile.mkdtemp(dir=place))
        began = time.perf_counter()
        method.start(folder)
        begin_seconds = time.perf_counter() - began
        times: list[float] = []
        done_seconds = 0.0
        while not done_seconds or len(times) < FEWEST_STEPS:
            times.append(step(method.before_update))
            if not done_seconds and method.is_done():
                done_seconds = time.perf_counter() - began
        stall = begin_seconds + sum(times) - len(times) * usual
        print(
            f"{name:34}{save:5}{1e3 * usual:10.1f}{1e3 * begin_seconds:10.1f}{1e3 * max(times):15.1f}"
            f"{1e3 * stall:10.1f}{stall / usual:12.2f}{done_seconds:8.1f}",
            flush=True,
        )
        shutil.rmtree(folder)
    method.close()


def _usual(step: Callable[..., float]) -> float:
    return statistics.median(step(lambda: None) for _ in range(12))


def _training(config: dict[str, Any], world: World) -> tuple[Callable[[Callable[[], None]], float], PlainEngine]:
    objective = TokenObjective((Term.of("cross_entropy"),))
    dtype = torch.bfloat16 if world.device.type == "cuda" else torch.float32
    network = build_network(config, dtype=dtype, device=world.device)
    network.train()
    scales = rate_scales(config, 1.0)
    optimizer = OptimizerConfig(lr=1e-4)
    engine = PlainEngine(network, objective, optimizer=optimizer, rate_scales=scales, world=world)
    with torch.no_grad():
        for fragment in engine.fragments():
            fragment.values.normal_(0.0, 0.02)
    engine._refresh_weights()
    ids = torch.randint(0, config["vocab_size"], (SEQUENCES, LENGTH))
    positions = torch.arange(LENGTH).expand(SEQUENCES, -1)
    weights = torch.ones(SEQUENCES)
    batch = Batch(ids, ids.roll(-1, dims=1), positions, None, torch.arange(SEQUENCES), weights)

    def step(before_update: Callable[[], None]) -> float:
        began = time.perf_counter()
        take_step(
            engine,
            None,
            [batch],
            objective=objective,
            lr=1e-4,
            random=(0, 0),
            world=world,
            before_update=before_update,
        )
        if world.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # not the copies that run beside
        return time.perf_counter() - began

    return step, engine


def _config(layers: int, hidden: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": 11 * hidden // 4,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": max(1, hidden // 256),
        "head_dim": 64,
        "vocab_size": 32000,
        "max_position_embeddings": LENGTH,
        "tie_word_embeddings": True,
    }


if __name__ == "__main__":
    main()
