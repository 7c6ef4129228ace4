"""Files of a `correct` stage with a row for each sample: a table an epoch, lists of suspects and heaviest samples."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from espalier.data.examples import Labelled
from espalier.kinds.correct.correction import Correction
from espalier.kinds.correct.kind import CorrectStage
from espalier.storage.local import LocalStorage
from espalier.tracking.csv_cells import csv_cell
from espalier.tracking.epochs import EPOCHS, final_epochs, list_path, names_path, table_path
from espalier.tracking.sample_reader import ADDED_COLUMNS, COLUMNS, CONFUSED_COLUMNS, table_refused
from espalier.tracking.samples import SampleTable, read_samples, write_names, write_samples
from espalier.worker.context import StageContext

SUSPECTS = 1000
HEAVIEST = 50
CONFUSED = 200
"""Most rows of the lists: the labels of least confidence, the samples of largest weight in the loss, and the pairs of
classes that are confused."""


class SampleFiles:
    """Writes the files of one stage; on rank zero alone."""

    def __init__(self, root: Path, stage: str, labelled: Labelled) -> None:
        self._root, self._stage, self._labelled = root, stage, labelled
        write_names(root / names_path(stage), labelled.train.names)

    @staticmethod
    def of(context: StageContext[CorrectStage]) -> SampleFiles:
        assert context.labelled is not None
        return SampleFiles(context.folder.path, context.config.name, context.labelled)

    def write(self, epoch: int, table: SampleTable, correction: Correction) -> str:
        """Write an epoch's table and replace both lists; the table's path in the run's folder."""
        path = table_path(self._stage, epoch)
        write_samples(self._root / path, table, data=self._labelled.train.key)
        suspects = correction.suspects[:SUSPECTS]
        heaviest = np.argsort(-table.weight, kind="stable")[:HEAVIEST]
        self._write_list("suspects", epoch, table, correction, suspects)
        self._write_list("heaviest", epoch, table, correction, heaviest)
        if self._labelled.names:
            self._write_confused(correction)
        return str(path)

    def _write_list(
        self,
        name: Literal["suspects", "heaviest"],
        epoch: int,
        table: SampleTable,
        correction: Correction,
        chosen: NDArray[np.int64],
    ) -> None:
        """Write chosen samples with text, label, predictions and their weights in the loss over the epochs."""
        train, student, doubt = self._labelled.train, table.student, correction.doubt
        suspicion = correction.suspicion(self._labelled.names)
        assert student is not None
        history = [weights[chosen] for weights in self._earlier_weights(epoch)] + [table.weight[chosen]]
        rows = []
        for row, sample in enumerate(chosen):
            rows.append(
                [
                    csv_cell(train.names[sample]),
                    sample,
                    f"{doubt[sample]:.4f}",
                    self._word(train.targets[sample]),
                    "" if table.teacher is None else self._word(table.teacher[sample]),
                    self._word(student[sample]),
                    f"{table.loss[sample]:.4f}",
                    " ".join(f"{weights[row]:.3f}" for weights in history),
                    csv_cell(train.texts[sample]),
                    csv_cell(train.pairs[sample]) if train.pairs else "",
                    suspicion.probability(sample),
                    csv_cell(suspicion.why(sample)),
                ]
            )
        self._write_csv(list_path(self._stage, name), (*COLUMNS, *ADDED_COLUMNS), rows)

    def _write_confused(self, correction: Correction) -> None:
        """Write which class is answered where another one is given, most frequent pairs first."""
        rows = [
            [
                csv_cell(self._labelled.names[pair.given]),
                csv_cell(self._labelled.names[pair.answered]),
                pair.num_samples,
                f"{pair.probability:.4f}",
                f"{correction.noise_of_class[pair.given]:.4f}",
            ]
            for pair in correction.suspicion(self._labelled.names).confused(CONFUSED)
        ]
        self._write_csv(list_path(self._stage, "confused"), CONFUSED_COLUMNS, rows)

    def _write_csv(self, place: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        made = io.StringIO()
        csv.writer(made).writerows([columns, *rows])
        path = self._root / place
        LocalStorage(path.parent).replace(path.name, made.getvalue().encode())

    def _earlier_weights(self, epoch: int) -> Iterator[NDArray[np.float32]]:
        """Weights of each earlier epoch that has a table: a step that ends several epochs writes a single one."""
        for record in final_epochs(self._root / EPOCHS, self._stage):
            if record.epoch < epoch and record.samples and (path := self._root / record.samples).exists():
                weights = read_samples(path).weight
                if len(weights) != len(self._labelled.train):
                    raise table_refused(path, f"it has {len(weights)} rows for {len(self._labelled.train)} samples")
                yield weights

    def _word(self, answer: np.generic) -> str:
        return csv_cell(self._labelled.names[int(answer)]) if self._labelled.names else f"{float(answer):g}"
