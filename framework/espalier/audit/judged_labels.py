"""The labels of a run beside the answers of its models, for the list of suspects and for a corrected table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from espalier.checkpoint.places import state_storage
from espalier.checkpoint.read import StateReader
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled, read_labelled
from espalier.data.fingerprint import fingerprint
from espalier.jobs.data_sets import data_path, data_sets, faults_of_data_set
from espalier.jobs.job import Job
from espalier.stages.files import PlanEntry
from espalier.stages.run_folder import RunFolder
from espalier.tracking.epochs import EPOCHS, final_epochs
from espalier.tracking.sample_reader import sample_answers, sample_column, table_refused
from espalier.weighting.label_confidence import label_confidence
from espalier.weighting.suspicion import Suspicion, Witness

_KINDS = ("correct", "cross_fit")


@dataclass(frozen=True)
class JudgedLabels:
    """The training samples of a stage and what models say of their labels.

    Attributes:
        setting: path of the data in the job file.
        doubt: [N] 0 to 1; from all epochs where the stage recorded them, else one minus the label's probability.
        student: [N] what the student answers at the end, as people write it; None where the stage trains none.
    """

    stage: str
    job: Job
    data: LabelledConfig
    setting: str
    labelled: Labelled
    suspicion: Suspicion
    doubt: NDArray[np.float64]
    student: Sequence[str | None]

    def suspects(self, most: int | None = None) -> list[int]:
        """Sample ids by descending doubt: the first `most`; all that are doubted when left out."""
        order = np.argsort(-self.doubt, kind="stable")
        return (order[self.suspicion.doubted[order]] if most is None else order[:most]).tolist()


def read_judged_labels(run_folder: Path, *, stage: str | None = None) -> JudgedLabels:
    """Read the samples of a finished `correct` or `cross_fit` stage and the answers that it has kept.

    Args:
        stage: its name; by default the last `correct` stage, or the last `cross_fit` stage where there is none.

    Raises:
        RefusedInput: no such stage, one that is not finished, or data that has changed since.
        DamagedCheckpoint: the answers are not as they were written.
    """
    folder = RunFolder(run_folder)
    job = folder.read_job()
    entry = _chosen(folder, job, stage)
    data = data_sets(job)[entry.data]
    assert isinstance(data, LabelledConfig)
    setting = data_path(entry.data)
    checkpoint = _checkpoint(folder, job, entry)
    with faults_of_data_set(entry.data):
        require_unchanged(data, entry, setting=setting)
        labelled = read_labelled(data, seed=job.seed)
    reader = StateReader.open(state_storage(folder.path, job), checkpoint)
    witness, answers = _answers(folder, entry, reader)
    suspicion = Suspicion(answers, labelled.train.targets, labelled.names, witness)
    doubt, student = _recorded(folder, entry.name, suspicion)
    return JudgedLabels(entry.name, job, data, setting, labelled, suspicion, doubt, student)


def require_unchanged(data: LabelledConfig, entry: PlanEntry, *, setting: str) -> None:
    """Refuse data that is not what a stage was planned with.

    Raises:
        RefusedInput: its files or settings have another hash.
    """
    if entry.reads.get("data") not in (None, fingerprint(data)):
        given = f"has changed since stage {entry.name} read it"
        allowed = "the files of this run, as they were; bring them back, or run the job again on the new ones"
        raise RefusedInput([Fault(setting, None, allowed, given=given)])


def _chosen(folder: RunFolder, job: Job, stage: str | None) -> PlanEntry:
    found = {
        entry.name: entry for kind in reversed(_KINDS) for entry in _labelled_stages(folder, job) if entry.kind == kind
    }
    if not found:
        allowed = "the folder of a run with a `correct` or `cross_fit` stage over labelled data"
        kinds = ", ".join(dict.fromkeys(entry.kind for entry in folder.plan())) or "no stages"
        raise RefusedInput([Fault("run_folder", str(folder.path), f"{allowed}; this one has {kinds}")])
    if stage is None:
        return list(found.values())[-1]
    if stage not in found:
        raise RefusedInput([Fault("--stage", stage, f"one of {', '.join(found)}", nearest(stage, found))])
    return found[stage]


def _labelled_stages(folder: RunFolder, job: Job) -> Iterator[PlanEntry]:
    for entry in folder.plan():
        if entry.kind in _KINDS and isinstance(data_sets(job).get(entry.data), LabelledConfig):
            yield entry


def _checkpoint(folder: RunFolder, job: Job, entry: PlanEntry) -> str:
    result = folder.result(entry.name)
    if result is None or result.key != entry.key or result.checkpoint is None:
        others = [
            one.name
            for one in _labelled_stages(folder, job)
            if one is not entry and folder.result(one.name) is not None
        ]
        instead = f"; or --stage {others[-1]}, which is finished" if others else ""
        allowed = f"a run whose stage {entry.name} is finished; go on with `espalier run`{instead}"
        raise RefusedInput([Fault("run_folder", str(folder.path), allowed)])
    return result.checkpoint


def _answers(folder: RunFolder, entry: PlanEntry, reader: StateReader) -> tuple[Witness, NDArray[np.float64]]:
    """Whose predictions the stage has kept, and these: [N, C]."""
    if entry.kind == "cross_fit":
        logits = reader.tensor("table", "answers").double()
        return "fold models", (logits.softmax(-1) if logits.shape[1] > 1 else logits).numpy()
    if "teacher" in reader.manifest.tables:
        teacher = folder.planned(entry.inputs.get("teacher", ""))
        witness: Witness = "fold models" if teacher is not None and teacher.kind == "cross_fit" else "teacher"
        return witness, reader.tensor("table", "teacher").double().numpy()
    return "student", reader.tensor("table", "past").double().numpy()


def _recorded(folder: RunFolder, stage: str, suspicion: Suspicion) -> tuple[NDArray[np.float64], Sequence[str | None]]:
    """Doubt and the student's answers of the stage's last epoch; without records what the predictions alone say."""
    num_samples = len(suspicion.targets)
    epochs = [one for one in final_epochs(folder.path / EPOCHS, stage) if one.samples]
    path = folder.path / str(epochs[-1].samples) if epochs else None
    if path is None or not path.exists():
        return 1.0 - label_confidence(suspicion.answers, suspicion.targets), [None] * num_samples
    belief = sample_column(path, "belief")
    if belief is None or len(belief) != num_samples:
        raise table_refused(path, f"it has no column `belief` of {num_samples} rows")
    student = sample_answers(path, "student", np.arange(num_samples), suspicion.names)
    return 1.0 - belief.astype(np.float64), student
