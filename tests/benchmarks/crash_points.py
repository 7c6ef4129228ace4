"""A save killed at every call that changes a file: what is left of the save before it, here and elsewhere.

python tests/benchmarks/crash_points.py [--only espalier] [--ranks 1] [--kib 8] [--demo] [--verbose]

Two states are saved whole; while a third is saved, one process gets SIGKILL before, after or (a write) half-way
through call k, for every k. A fresh process then resumes as that library documents.

    new, old   the state it loads is bit-equal to the third or the second
    refused    it raises or finds nothing, though whole states had been saved
    torn       it loads without an error, and what it loads is neither
    survived   new or old, and further saves work and load again
    left over  cuts after which files of the dead save are still there once the same step / a later one is saved

With two ranks the last is killed and the first ends a second later at the latest, as a launcher would have it. A kill
leaves the page cache alone: nothing here tells of power cuts. Needs gcc and Linux. Seconds grow with the load of the
machine; one system takes about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from espalier.checkpoint.storage import LocalStorage
from espalier.checkpoint.write import begin, commit, write_fragments

SLOTS: tuple[Slot, ...] = ("parameter", "exp_avg", "exp_avg_sq")
MANNERS = ("before", "half", "after")
DEMO_VALUES, DEMO_TENSORS = 106_000_000, 64
GRACE_SECONDS, LIMIT_SECONDS, STUCK = 1.0, 120.0, 255
LIBRARY = "ESPALIER_STOP_AT_CALL"


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


@dataclass(frozen=True)
class Cut:
    """Rank `rank` ends at its call `call`."""

    rank: int = 0
    call: int = -1
    manner: str = "before"


@dataclass
class Outcome:
    """What the ranks of one group of processes came to."""

    values: list[Any]
    faults: list[str] = field(default_factory=list)
    killed: bool = False


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


def in_processes(work: Callable[[], Any], *, ranks: int, cut: Cut | None = None, root: Path) -> Outcome:
    """Run `work` on forked ranks that meet through a file; `cut` numbers the calls of its rank below `root`."""
    with tempfile.TemporaryDirectory() as meeting:
        children = {
            one: _fork(work, one, ranks, cut if cut and cut.rank == one else None, root, Path(meeting))
            for one in range(ranks)
        }
        statuses = _wait(children)
        outcome = Outcome([None] * ranks)
        for one, status in statuses.items():
            answer = Path(meeting, f"{one}.json")
            if status == 0 and answer.exists():
                outcome.values[one] = json.loads(answer.read_text())
                continue
            fault = Path(meeting, f"{one}.fault")
            outcome.faults.append(fault.read_text() if fault.exists() else f"rank {one} ended with {status}")
        outcome.killed = bool(cut) and statuses[cut.rank] == -signal.SIGKILL
        return outcome


def _fork(work: Callable[[], Any], one: int, ranks: int, cut: Cut | None, root: Path, meeting: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _silence()
        os.environ |= {"RANK": str(one), "LOCAL_RANK": str(one), "WORLD_SIZE": str(ranks)}
        store = f"file://{meeting}/store"
        dist.init_process_group("gloo", init_method=store, rank=one, world_size=ranks)
        value = _stopped(work, cut, root) if cut else work()
        Path(meeting, f"{one}.json").write_text(json.dumps(value))
        code = 0
    except BaseException as error:  # DCP's own error is no Exception
        told = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1].strip()
        Path(meeting, f"{one}.fault").write_text(told)
    finally:
        os._exit(code)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _stopped(work: Callable[[], Any], cut: Cut, root: Path) -> list[Any]:
    """The answer of `work` and the kinds of its calls, when it was not killed."""
    library = ctypes.CDLL(os.environ[LIBRARY])
    library.trace.restype = ctypes.c_char_p
    library.arm(os.fsencode(root.resolve()), ctypes.c_long(cut.call), MANNERS.index(cut.manner))
    value = work()
    library.disarm()
    return [value, library.trace().decode()]


def _wait(children: Mapping[int, int]) -> dict[int, int]:
    """Exit codes by rank, -9 for SIGKILL; when one has failed, the others have a little time to end."""
    statuses: dict[int, int] = {}
    running = dict(children)
    deadline = time.monotonic() + LIMIT_SECONDS
    while running:
        for one, child in list(running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[one]
                statuses[one] = os.waitstatus_to_exitcode(status)
                if statuses[one]:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if running and time.monotonic() > deadline:
            for one, child in running.items():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                statuses[one] = STUCK
            break
        time.sleep(0.001)
    return statuses


@dataclass
class Row:
    """Counts over the cuts of one system."""

    system: str
    ranks: int
    num_cuts: int = 0
    found: Counter[str] = field(default_factory=Counter)
    survived: int = 0
    left_same: int = 0
    left_later: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        found = self.found
        return (
            f"{self.system:28}{self.ranks:5}{self.num_cuts:6}{self.survived:10}{found['new']:6}{found['old']:5}"
            f"{found['refused']:9}{found['torn']:6}{self.left_same:7} /{self.left_later:4}{self.seconds:9.0f}"
        )


HEAD = (
    f"{'system':28}{'ranks':>5}{'cuts':>6}{'survived':>10}{'new':>6}{'old':>5}{'refused':>9}{'torn':>6}"
    f"{'left over':>13}{'seconds':>9}"
)


class Explorer:
    """One system, cut everywhere."""

    def __init__(self, system: System, ranks: int, folder: Path, *, verbose: bool, large: bool) -> None:
        self._system = system
        self._ranks = ranks
        self._folder = folder
        self._verbose = verbose
        self._large = large
        self._row = Row(system.name, ranks)
        self._listings: dict[tuple[str, Save], set[str]] = {}
        self._digests: dict[Save, list[Any]] = {}

    def run(self) -> Row:
        start = time.monotonic()
        base = self._folder / "old"
        base.mkdir()
        for what in (OLDER, OLD):
            self._digests[what] = self._whole(base, what)
        last = self._ranks - 1
        trace = self._undisturbed(base, last)
        if self._verbose:
            print(f"  {self._system.name}, calls of rank {last}: {trace}", flush=True)
        for call, kind in enumerate(trace):
            for manner in MANNERS if kind == "w" else ("before", "after"):
                self._cut(base, Cut(last, call, manner), kind)
        self._row.seconds = time.monotonic() - start
        return self._row

    def _whole(self, root: Path, what: Save) -> list[Any]:
        outcome = in_processes(lambda: self._system.save(root, what), ranks=self._ranks, root=root)
        if outcome.faults:
            raise RuntimeError(f"{self._system.name} does not save: {outcome.faults[0]}")
        return outcome.values

    def _undisturbed(self, base: Path, one: int) -> str:
        """The calls of rank `one` in the save; what it and the next saves leave is remembered."""
        new = self._copy(base, "new")
        work = functools.partial(self._system.save, new, NEW)
        outcome = in_processes(work, ranks=self._ranks, cut=Cut(one), root=new)
        if outcome.faults:
            raise RuntimeError(f"{self._system.name} does not save: {outcome.faults[0]}")
        saved, trace = outcome.values[one]
        self._digests[NEW] = [saved if place == one else value for place, value in enumerate(outcome.values)]
        for state, root in (("old", base), ("new", new)):
            assert self._load(root) == state, f"{self._system.name}: undisturbed, `{state}` is not what it loads"
            for what in (REDONE, LATER) if state == "old" else (LATER,):
                again = self._copy(root, "again")
                self._digests[what] = self._whole(again, what)
                self._listings[state, what] = _listing(again)
        return trace

    def _cut(self, base: Path, cut: Cut, kind: str) -> None:
        root = self._copy(base, "cut")
        outcome = in_processes(lambda: self._system.save(root, NEW), ranks=self._ranks, cut=cut, root=root)
        assert outcome.killed, f"{self._system.name}: {cut} was not reached"
        self._row.num_cuts += 1
        found = self._load(root)
        self._row.found[found] += 1
        if found in ("old", "new"):
            self._go_on(root, found)
        if self._verbose:
            print(f"    {cut.rank}:{cut.call}{kind} {cut.manner:7}{found}", flush=True)

    def _load(self, root: Path) -> str:
        outcome = in_processes(lambda: self._system.load(root), ranks=self._ranks, root=root)
        if outcome.faults:
            self._row.faults[outcome.faults[0].replace(str(root), "")] += 1
            return "refused"
        return {tuple(self._digests[NEW]): "new", tuple(self._digests[OLD]): "old"}.get(tuple(outcome.values), "torn")

    def _go_on(self, root: Path, found: str) -> None:
        """Save again as the run that resumes would: the step that was lost, and one of a later number."""
        again = [REDONE] * (found == "old") + [LATER] * (found == "new" or not self._large)
        self._row.survived += all([self._saves_again(root, found, what) for what in again])

    def _saves_again(self, root: Path, found: str, what: Save) -> bool:
        again = self._copy(root, "again")
        saved = in_processes(lambda: self._system.save(again, what), ranks=self._ranks, root=again)
        loaded = in_processes(lambda: self._system.load(again), ranks=self._ranks, root=again)
        left = bool(_listing(again) - self._listings[found, what])
        self._row.left_same += left and what is REDONE
        self._row.left_later += left and what is LATER
        return not saved.faults and loaded.values == self._digests[what]

    def _copy(self, root: Path, name: str) -> Path:
        copy = self._folder / name
        shutil.rmtree(copy, ignore_errors=True)
        # Links suffice where no file is written over, and a large state is not copied again and again.
        return Path(shutil.copytree(root, copy, copy_function=os.link if self._large else shutil.copy))


def _listing(root: Path) -> set[str]:
    return {str(one.relative_to(root)) for one in root.rglob("*")}


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


def prepare(chosen: Sequence[System], size: Size, folder: Path | None) -> None:
    """Do once, before all forks, what every process would do: the states, and what each system imports on its way.

    A process is asked for the names; nothing runs in this one, which must stay without threads.
    """
    for seed in (0, OLDER.seed, OLD.seed, NEW.seed, LATER.seed):
        make_state(seed, size)
    for system in chosen:
        if isinstance(system, DeepSpeed):
            system.settle()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            work = functools.partial(_modules_of, system, Path(scratch))
            for name in in_processes(work, ranks=1, root=Path(scratch)).values[0] or ():
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


def _modules_of(system: System, root: Path) -> list[str]:
    system.save(root, OLD)
    system.load(root)
    return sorted(sys.modules)


def start_again() -> int:
    """Run this script once more with the library before libc's."""
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/stop_at_call.so"
        source = Path(__file__).with_suffix("").with_name("stop_at_call.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, str(source), "-ldl"], check=True)
        environment = {"OMP_NUM_THREADS": "1", "LD_PRELOAD": library, LIBRARY: library, "GLOO_SOCKET_IFNAME": "lo"}
        return subprocess.run([sys.executable, *sys.argv], env=os.environ | environment, check=False).returncode


def main() -> None:
    """Print a line for each system and number of ranks; below it why loads were refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="systems whose name has this in it")
    parser.add_argument("--ranks", type=int, choices=(1, 2), help="both when left out")
    parser.add_argument("--kib", type=int, default=8, help="of one tensor; there are 6 of them")
    parser.add_argument("--demo", action="store_true", help="espalier with a state of the demo's size")
    parser.add_argument("--folder", type=Path, help="where the saves go; a temporary folder when left out")
    parser.add_argument("--verbose", action="store_true", help="each cut on a line")
    arguments = parser.parse_args()
    if LIBRARY not in os.environ:
        sys.exit(start_again())
    size = Size(DEMO_TENSORS, DEMO_VALUES // DEMO_TENSORS) if arguments.demo else Size(2, arguments.kib * 256)
    chosen = [one for one in systems(size) if arguments.only.lower() in one.name.lower()]
    chosen = [one for one in chosen if isinstance(one, Espalier) or not arguments.demo]
    prepare([one for one in chosen if not missing(one)], size, arguments.folder)
    rows = []
    print(HEAD, flush=True)
    for ranks in (arguments.ranks,) if arguments.ranks else (1, 2):
        for system in chosen:
            if ranks > system.most_ranks:
                continue
            if needed := missing(system):
                print(f"{system.name:28}{ranks:5}  {needed} is not installed")
                continue
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                explorer = Explorer(system, ranks, Path(folder), verbose=arguments.verbose, large=arguments.demo)
                rows.append(explorer.run())
            print(rows[-1].text(), flush=True)
    for row in rows:
        for fault, times in row.faults.most_common(3):
            print(f"{row.system}, {row.ranks} rank(s), refused {times}x: {fault[:120]}")


if __name__ == "__main__":
    main()
