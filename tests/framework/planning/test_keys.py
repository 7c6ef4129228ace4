"""What a stage's key hangs on beside its settings: a finished stage is done again when that changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espalier.config.labelled import LabelledConfig
from espalier.data.examples import read_labelled
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.tracking.samples import SampleTable, write_samples
from support.labelled import labelled_job, write_labelled_job


def test_keys_depend_on_the_contents_of_named_files(tmp_path: Path) -> None:
    stages = labelled_job(tmp_path)["stages"]
    excluded, weighed = tmp_path / "out.txt", tmp_path / "weights.parquet"
    stages[3] |= {"distrust": {"exclude": str(excluded)}, "weights": {"initial": str(weighed)}}
    job = read_job(write_labelled_job(tmp_path, stages=stages))
    assert isinstance(job.data, LabelledConfig)
    train = read_labelled(job.data, seed=job.seed).train

    def keys(name: str, weight: float) -> list[str]:
        excluded.write_text(f"{name}\n")
        weights = np.array([weight, *[1.0] * (len(train) - 1)], dtype=np.float32)
        write_samples(weighed, SampleTable(weight=weights, loss=weights), data=train.key)
        return [stage.key for stage in prepare(job).plan.stages]

    first, second = train.names[:2]
    found = [keys(first, 1.0), keys(second, 1.0), keys(first, 0.5)]
    assert len({stages[3] for stages in found}) == 3 and len({stages[4] for stages in found}) == 3
    assert len({tuple(stages[:3]) for stages in found}) == 1, "what does not read them stays as it is"
    assert keys(first, 1.0) == found[0]
