"""What is checked on a cluster before a run is started or queued there, by its driver and a task on each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state  # private (2.60): what an autoscaler may bring

from espalier import __version__
from espalier.config.data import OriginConfig
from espalier.config.faults import Fault
from espalier.config.files import matching_files
from espalier.config.plugins import load_reference
from espalier.jobs.data_sets import data_path, data_sets
from espalier.jobs.files import check_files, input_folders
from espalier.jobs.job import Job, WorkersConfig
from espalier.jobs.tracker import TrackerAnswer
from espalier.planning.checks import storage_bytes
from espalier.planning.prepare import PreparedJob
from espalier.planning.preview import StagePreview
from espalier.tracking.mirror import asked_trackers
from espalier.tracking.number_format import bytes_text
from espalier_cluster.node_checks import (
    Files,
    NodeReport,
    ask_nodes,
    file_faults,
    files_named,
    own_versions,
    storage_faults,
    version_faults,
)
from espalier_cluster.occupants import who_is_waited_for
from espalier_cluster.preflight import able, free_room, ray_faults, room_faults
from espalier_cluster.preflight_table import Preflight

_MANY = 3
_PROCESS_BYTES = 2**30  # of a process that has loaded torch, transformers and DeepSpeed, beside its model


def look_at_cluster(preflight: Preflight, job: Job, *, place: Path) -> list[NodeReport]:
    """Check the connected cluster for what a job needs before its data is read.

    Args:
        place: folder on the job's storage that this process can write to.

    Returns:
        What the nodes that workers may come to have said.
    """
    nodes = ray.nodes()
    asked = able(job.workers, nodes) or [node for node in nodes if node["Alive"]]
    files = _files(job)
    with ThreadPoolExecutor(1) as pool:  # a server that is asked for its opinion takes its time
        access = pool.submit(_look_at_trackers, job)
        reports = ask_nodes(asked, place, files=files, mode=job.folder_mode)
        of_trackers = access.result()
    _note_cluster(preflight, nodes, reports)
    _note_storage(preflight, job, reports)
    _note_files(preflight, job, files, reports)
    _note_room(preflight, job.workers, nodes)
    for title, setting, found in of_trackers:
        faults = [Fault(setting, "online", found.refused)] if found.refused else []
        preflight.note(title, found.found, faults, state="good" if found.is_good else "warned")
    return reports


def look_at_plan(preflight: Preflight, prepared: PreparedJob, reports: Sequence[NodeReport]) -> None:
    """Check memory and disk of the nodes for what the plan says that the run takes."""
    needed, storage = storage_bytes(prepared.job, prepared.previews), Path(prepared.job.storage)
    free = min((report.free_bytes for report in reports if not report.trouble), default=0)
    disk = f"at most {bytes_text(needed)} below {storage}, where {bytes_text(free)} are free"
    preflight.note("disk", disk, storage_faults(storage, reports, needed_bytes=needed))
    trained = [preview for preview in prepared.previews if preview.memory is not None]
    if trained:
        _note_memory(preflight, prepared.job.workers, trained, reports)


def _note_cluster(preflight: Preflight, nodes: Sequence[Mapping[str, Any]], reports: Sequence[NodeReport]) -> None:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = (sum(node.get(name, 0) for node in alive) for name in ("CPU", "GPU"))
    has = f"{len(alive)} node{'s' * (len(alive) != 1)} with {cpus:g} CPUs and {gpus:g} GPUs"
    preflight.note("nodes", has)
    everywhere = [*reports, NodeReport("of the driver", "", versions=own_versions())]
    same = f"espalier {__version__}, Ray {ray.__version__} on the driver's machine and {_nodes(reports)}"
    preflight.note("versions", same, [*ray_faults(), *version_faults(everywhere)], wrong="not the same everywhere")


def _note_storage(preflight: Preflight, job: Job, reports: Sequence[NodeReport]) -> None:
    found = f"{job.storage} is read and written by {_nodes(reports)}"
    without = [report.node for report in reports if report.trouble]
    wrong = f"not shared by {', '.join(without[:_MANY])}" + f" and {len(without) - _MANY} more" * (len(without) > _MANY)
    preflight.note("storage", found, storage_faults(Path(job.storage), reports, needed_bytes=0), wrong=wrong)


def _note_files(preflight: Preflight, job: Job, files: Files, reports: Sequence[NodeReport]) -> None:
    """A line for the data and one for the models: there, readable, and of the same size on all nodes."""
    here = check_files(job)
    unlike = [*file_faults(files, reports)]
    of_models = {setting for setting, _ in input_folders(job)}
    for what, is_of in (("data", lambda path: path not in of_models), ("models", lambda path: path in of_models)):
        faults = [fault for fault in (*here, *unlike) if is_of(fault.path)]
        sizes = [size for setting, named in files.items() if is_of(setting) for _, size in named]
        found = f"{len(sizes)} files, {bytes_text(sum(sizes))}, the same on {_nodes(reports)}" if sizes else ""
        hub = ", ".join(value for setting, value in input_folders(job) if is_of(setting) and _is_of_hub(value))
        found = "; ".join(filter(None, (found, f"{hub}: of the hub, fetched where missing" if hub else "")))
        preflight.note(what, found or "no files", faults, wrong="not there, or not the same on all nodes")


def _note_room(preflight: Preflight, workers: WorkersConfig, nodes: Sequence[Mapping[str, Any]]) -> None:
    """A line for the workers: they have room, wait for others to leave, or can never be placed."""
    faults = room_faults(workers, nodes)
    if faults and _may_grow(workers):
        text = f"{faults[0].allowed}; the autoscaler may bring more nodes"
        preflight.note("workers", text, state="waits")
    elif not faults and (busy := who_is_waited_for(workers)):
        preflight.note("workers", busy, state="waits")
    else:
        each = f"{workers.cpus_each} CPU" + f" and {workers.gpus_each} GPU" * bool(workers.gpus_each)
        free = workers.count if faults else min(workers.count, max(workers.fewest, free_room(workers)))
        can = f"room for {free}, {each} each" + f", of {workers.count} that it would take" * (free < workers.count)
        preflight.note("workers", can, faults, wrong=f"{workers.fewest}, {each} each, can never be placed")


def _may_grow(workers: WorkersConfig) -> bool:
    """Whether an autoscaler may bring as much as the workers take in all; kind and size of its nodes are not known."""
    most = state.get_max_resources_from_cluster_config()
    if most is None:
        return False
    taken = {"CPU": workers.count * workers.cpus_each, "GPU": workers.count * workers.gpus_each}
    return all(most.get(name, 0) >= amount for name, amount in taken.items())


def _note_memory(
    preflight: Preflight, workers: WorkersConfig, trained: Sequence[StagePreview], reports: Sequence[NodeReport]
) -> None:
    """A line for the memory. Refused is what weights and optimizer states alone exceed; the rest is an estimate."""
    if workers.gpus_each:
        sizes, where = [size for report in reports for size in report.gpu_bytes], "a GPU"
    else:
        sizes, where = [report.memory_bytes for report in reports if report.memory_bytes], "a node"
    if not sizes:
        preflight.note("memory", f"no node tells how much {where} has", state="warned")
        return
    beside = 0 if workers.gpus_each else _PROCESS_BYTES
    faults = []
    for preview in trained:
        if (states := _state_bytes(preview)) > max(sizes):
            given = f"takes {bytes_text(states)} of a worker for its weights and optimizer states alone"
            allowed = f"at most the {bytes_text(max(sizes))} of {where}: shard more (zero_level), over more workers"
            faults.append(Fault(f"stages.{preview.stage.name}", None, allowed, given=given))
    peak = max(preview.memory.total for preview in trained if preview.memory is not None) + beside
    fits = peak <= min(sizes)
    found = f"a worker takes about {bytes_text(peak)}; {where} has {bytes_text(min(sizes))}"
    preflight.note("memory", found, faults, state="good" if fits else "warned")


def _state_bytes(preview: StagePreview) -> float:
    memory = preview.memory
    return 0.0 if memory is None else memory.weights + memory.masters + memory.moments


def _files(job: Job) -> Files:
    """The files of data and models that each node has to have; what is missing here is refused elsewhere."""
    patterns: dict[str, list[str]] = {}
    for name, data in data_sets(job).items():
        for split, origin in (("train", data.train), ("valid", data.valid)):
            if isinstance(origin, OriginConfig):
                found = {path for pattern in origin.files for path in matching_files(pattern)}
                patterns[f"{data_path(name)}.{split}.files"] = sorted(found)
    for setting, folder in input_folders(job):
        if folder.startswith("/") and Path(folder).is_dir():
            patterns[setting] = sorted(str(path) for path in Path(folder).iterdir() if path.is_file())
    return files_named({setting: paths for setting, paths in patterns.items() if paths})


def _is_of_hub(model: str) -> bool:
    return bool(model) and model not in ("auto", "never") and not model.startswith("/")


def _look_at_trackers(job: Job) -> list[tuple[str, str, TrackerAnswer]]:
    """Of each tracker that has something to look at: its title, its setting, what was found."""
    found = []
    for kind, settings in asked_trackers(job):
        if kind.look:
            try:
                access = load_reference(kind.look)(settings)
            except Exception as error:  # no tracker ends a run
                access = TrackerAnswer(f"it could not be looked at: {type(error).__name__}", is_good=False)
            found.append((kind.title, f"tracking.{kind.name}.mode", access))
    return found


def _nodes(reports: Sequence[NodeReport]) -> str:
    return "1 node" if len(reports) == 1 else f"all {len(reports)} nodes"
