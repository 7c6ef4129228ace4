"""The ways to save that `crash_points.py` cuts: ours, and each peer as its documentation has it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import xxhash
from torch import Tensor, nn

from espalier.checkpoint.fragments import Fragment, Slot
from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import latest, retain, stage_folder, step_folder
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.storage.local import LocalStorage

SLOTS: tuple[Slot, ...] = ("parameter", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Save:
    """One state, as its seed makes it, to be saved as one step."""

    step: int
    seed: int
    attempt: int = 1


OLDER, OLD, NEW, REDONE, LATER = Save(1, 1), Save(2, 2), Save(3, 3), Save(3, 4, attempt=2), Save(4, 4, attempt=2)


@dataclass(frozen=True)
class Size:
    """`num_tensors` parameters of `num_values` each, in every slot; float32."""

    num_tensors: int
    num_values: int


class System(Protocol):
    """A way to save. Both methods run on every rank and give the digest of what they saved or loaded."""

    name: str
    most_ranks: int

    def save(self, root: Path, what: Save) -> str: ...

    def load(self, root: Path) -> str:
        """Resume as documented; raises when there is nothing to resume from."""


def gather(value: Any) -> list[Any]:
    """Of every rank; a barrier too."""
    values = [None] * num_ranks()
    if num_ranks() == 1:
        return [value]
    dist.all_gather_object(values, value)
    return values


def num_ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


@functools.lru_cache(maxsize=8)
def make_state(seed: int, size: Size) -> Mapping[str, Tensor]:
    """Every tensor under `slot/name`, each flat."""
    generator = torch.Generator().manual_seed(seed)
    keys = (f"{slot}/layer.{index:02d}" for index in range(size.num_tensors) for slot in SLOTS)
    return {key: torch.randn(size.num_values, generator=generator) for key in keys}


def digest(tensors: Mapping[str, Tensor]) -> str:
    whole = xxhash.xxh3_128()
    for name, tensor in sorted(tensors.items()):
        whole.update(name.encode())
        whole.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def newest(root: Path, pattern: str, *, needs: str = "") -> Path:
    """The folder of the highest step that has the file `needs`, as the peers' own loaders choose it."""
    found = [
        (int(match[1]), one)
        for one in root.iterdir()
        if (match := re.fullmatch(pattern, one.name)) and (one / needs).exists()
    ]
    if not found:
        raise FileNotFoundError("no checkpoint is found")
    return max(found)[1]


@dataclass(frozen=True)
class Espalier:
    """As `training/state.py` saves and resumes; one process plays two ranks, one after the other."""

    size: Size
    name: str = "espalier"
    most_ranks: int = 2

    def save(self, root: Path, what: Save) -> str:
        storage, folder = LocalStorage(root), step_folder("heal", what.step)
        if rank() == 0:
            begin(storage, folder, attempt=what.attempt)
        gather(None)
        plays = range(2) if num_ranks() == 1 else [rank()]
        written = [
            write_fragments(storage, folder, fragments=self._held(what, one), rank=one, attempt=what.attempt)
            for one in plays
        ]
        ranks = [one for held in gather(written) for one in held]
        if rank() == 0:
            origin = Origin(
                stage="heal",
                step=what.step,
                attempt=what.attempt,
                world_size=2,
                zero_level="optimizer",
                model={},
                tokenizer="t0",
            )
            shapes = {f"layer.{index:02d}": (self.size.num_values,) for index in range(self.size.num_tensors)}
            commit(storage, folder, origin=origin, shapes=shapes, state={"position": what.step}, ranks=ranks)
        gather(None)
        if rank() == 0:
            retain(storage, stage_folder("heal"), keep_latest=2)
        return digest(make_state(what.seed, self.size))

    def load(self, root: Path) -> str:
        storage = LocalStorage(root)
        folder = gather(latest(storage, stage_folder("heal")).folder if rank() == 0 else None)[0]
        if folder is None:
            raise FileNotFoundError("no checkpoint is found")
        reader = StateReader.open(storage, folder, verify=False)
        return digest({f"{slot}/{name}": reader.tensor(slot, name) for slot in SLOTS for name in reader.names(slot)})

    def _held(self, what: Save, held_by: int) -> Iterator[Fragment]:
        half, state = self.size.num_values // 2, make_state(what.seed, self.size)
        for slot in SLOTS:
            for index in range(self.size.num_tensors):
                name = f"layer.{index:02d}"
                pieces = state[f"{slot}/{name}"].split([half, self.size.num_values - half])
                yield Fragment(slot, name, held_by * half, pieces[held_by])


@dataclass(frozen=True)
class TorchSave:
    """The base line: one file, written over."""

    size: Size
    name: str = "torch.save, one file"
    most_ranks: int = 1

    def save(self, root: Path, what: Save) -> str:
        state = make_state(what.seed, self.size)
        torch.save(dict(state), root / "checkpoint.pt")
        return digest(state)

    def load(self, root: Path) -> str:
        return digest(torch.load(root / "checkpoint.pt", weights_only=True))


@dataclass(frozen=True)
class Dcp:
    """torch.distributed.checkpoint: one folder written over, or a folder for each step.

    Steps are found and purged as torchtitan does: a step counts when it has `.metadata`; all folders but the newest
    two are removed.
    """

    size: Size
    per_step: bool
    most_ranks: int = 2

    @property
    def name(self) -> str:
        return f"torch DCP, {'folder per step' if self.per_step else 'one folder'}"

    def save(self, root: Path, what: Save) -> str:
        state = make_state(what.seed, self.size)
        folder = root / (f"step-{what.step}" if self.per_step else "checkpoint")
        dcp.save(dict(state), checkpoint_id=folder)
        if self.per_step and rank() == 0:
            steps = sorted(root.glob("step-*"), key=lambda one: int(one.name.removeprefix("step-")))
            for one in steps[:-2]:
                shutil.rmtree(one)
        return digest(state)

    def load(self, root: Path) -> str:
        folder = newest(root, r"step-(\d+)", needs=".metadata") if self.per_step else root / "checkpoint"
        state = {key: torch.zeros_like(one) for key, one in make_state(0, self.size).items()}
        dcp.load(state, checkpoint_id=folder)
        return digest(state)


@dataclass(frozen=True)
class TorchCheckpointing:
    """meta-pytorch/torch_checkpointing: synchronous, its defaults, found as in its tutorial."""

    size: Size
    name: str = "torch_checkpointing"
    most_ranks: int = 2

    def save(self, root: Path, what: Save) -> str:
        state = make_state(what.seed, self.size)
        self._manager().save(str(root / f"step_{what.step}"), {"model": dict(state), "step": what.step})
        return digest(state)

    def load(self, root: Path) -> str:
        state = {key: torch.zeros_like(one) for key, one in make_state(0, self.size).items()}
        into = {"model": state, "step": 0}
        return digest(self._manager().load(str(newest(root, r"step_(\d+)")), into=into, strict=True)["model"])

    @staticmethod
    def _manager() -> Any:
        from torch_checkpointing import CheckpointManager
        from torch_checkpointing.config import SyncCheckpointSaverConfig
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

        # Its default writes unaligned blocks with O_DIRECT, which ext4 refuses (0.1.1); its manual has this remedy.
        storage = LocalFileSystemStorageConfig(use_direct_io=False)
        return CheckpointManager(CheckpointManager.Config(save=SyncCheckpointSaverConfig(), storage_config=storage))


@dataclass(frozen=True)
class DeepSpeed:
    """An engine of ZeRO stage 1, a tag for each step, found through `latest`."""

    size: Size
    name: str = "DeepSpeed, ZeRO-1"
    most_ranks: int = 2

    def save(self, root: Path, what: Save) -> str:
        engine = self._engine(what.seed)
        engine.backward(sum((one * one).sum() for one in engine.module.parameters()))
        engine.step()
        before = self._digest(engine)
        engine.save_checkpoint(str(root), tag=f"global_step{what.step}")
        return before

    def load(self, root: Path) -> str:
        engine = self._engine(0)
        path, _ = engine.load_checkpoint(str(root))
        if path is None:
            raise FileNotFoundError("load_checkpoint returns None: training would start from scratch")
        return self._digest(engine)

    @staticmethod
    def settle() -> None:
        """Ask once which operators there are, which calls gcc, and leave out the one compiled on first use (0.19.8)."""
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

    def _engine(self, seed: int) -> Any:
        import deepspeed

        state = make_state(seed, self.size)
        module = nn.ParameterDict(
            {key.replace("/", "_").replace(".", "_"): one.clone() for key, one in state.items() if "parameter" in key}
        )
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
        config = {
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": 1},
            "zero_allow_untested_optimizer": True,
        }
        return deepspeed.initialize(model=module, optimizer=optimizer, config=config)[0]

    @staticmethod
    def _digest(engine: Any) -> str:
        """The model, and this rank's piece of the weights and moments that it steps with."""
        zero = engine.optimizer
        found = dict(engine.module.named_parameters())
        for index, piece in enumerate(zero.single_partition_of_fp32_groups):
            moments = zero.optimizer.state[piece]
            found |= {f"{index}/{name}": one for name, one in {"master": piece, **moments}.items() if one.dim()}
        return digest(found)


def systems(size: Size) -> list[System]:
    return [
        Espalier(size),
        DeepSpeed(size),
        Dcp(size, per_step=False),
        Dcp(size, per_step=True),
        TorchCheckpointing(size),
        TorchSave(size),
    ]


NEEDS = {DeepSpeed: "deepspeed", TorchCheckpointing: "torch_checkpointing"}


def missing(system: System) -> str | None:
    """The package that a system needs and that is not here."""
    needed = NEEDS.get(type(system))
    return needed if needed and importlib.util.find_spec(needed) is None else None
