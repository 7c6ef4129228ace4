"""Settings of labelled data: texts or pairs of texts, each with a class or a number."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from espalier.config.base import Count, Words, parse_tuple
from espalier.config.data import HeldOutConfig, OriginConfig, Word
from espalier.config.faults import Fault, RefusedInput
from espalier.config.format import DataSettings, Targets

Metric = Literal[
    "accuracy", "f1", "f1_macro", "f1_weighted", "matthews", "pearson", "spearman", "r2", "mse", "mae", "loss"
]
OF_CLASSES: tuple[Metric, ...] = ("accuracy", "f1", "f1_macro", "f1_weighted", "matthews", "loss")
OF_NUMBERS: tuple[Metric, ...] = ("pearson", "spearman", "r2", "mse", "mae", "loss")
SMALLER_IS_BETTER: tuple[Metric, ...] = ("mse", "mae", "loss")
DEFAULT_METRICS: dict[str, Metric] = {"classification": "accuracy", "regression": "pearson"}


class TableConfig(OriginConfig):
    """A table with a label in each row. In tsv files quotes have no special meaning."""

    source: Literal["tsv", "csv", "json", "parquet", "hub"]
    columns: Annotated[tuple[Word, ...], BeforeValidator(parse_tuple)] = ()
    """Names of the columns of tsv or csv files that have no header."""
    text: Word = "text"
    pair: Word | None = None
    """The second text of a pair."""
    label: Word = "label"
    id: Word | None = None
    """A column that names each sample, for records and reports; without it a sample is named by its row."""
    weight: Word | None = None
    """A column with a weight for each sample."""

    @model_validator(mode="after")
    def _columns_of_plain_files(self) -> TableConfig:
        if self.columns and self.source not in ("tsv", "csv"):
            raise RefusedInput([Fault("columns", self.columns, "leave it out; only tsv and csv files lack names")])
        named = [name for name in (self.text, self.pair, self.label, self.id, self.weight) if name]
        missing = [name for name in named if name not in self.columns]
        if self.columns and missing:
            raise RefusedInput([Fault("columns", self.columns, f"names that include {', '.join(missing)}")])
        return self


def _valid_kind(value: Any) -> str:
    held_out = "fraction" in value if isinstance(value, dict) else isinstance(value, HeldOutConfig)
    return "HeldOutConfig" if held_out else "TableConfig"


def _as_written(value: Any) -> Any:
    """Convert an integer to text as in the column; values with several notations, as `true` or 1.5, are left."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ClassName = Annotated[
    Word,
    BeforeValidator(_as_written),
    Words("as the column has it, in quotes where it is no word: '1.0', 'true'"),
    WithJsonSchema({"type": ["string", "integer"], "minLength": 1, "maxLength": 256}),
]


class LabelledConfig(DataSettings):
    """Labelled data. A held-out validation part has the same share of each class."""

    task: Literal["classification", "regression"]
    train: TableConfig
    valid: Annotated[
        Annotated[TableConfig, Tag("TableConfig")] | Annotated[HeldOutConfig, Tag("HeldOutConfig")],
        Discriminator(_valid_kind),
    ]
    labels: Annotated[tuple[ClassName, ...], BeforeValidator(parse_tuple)] = ()
    """The classes as the label column has them, in the order of the model's outputs; without it those of the
    training data, sorted."""
    names: Annotated[tuple[ClassName, ...], BeforeValidator(parse_tuple)] = ()
    """Names of the classes in the exported model and in reports; the same as `labels` when left out."""
    metric: Metric | None = None
    """The metric for choosing the best epoch, for gates and for reports; accuracy or pearson when left out."""
    balance: bool = False
    """Weigh samples so that all classes have the same total weight."""
    limit: Count | None = None
    """Use only this number of training samples, chosen by the job's seed with the share of each class."""
    sequence_tokens: Annotated[Count, Field(ge=8), Words("longer texts are cut")] = 128

    @model_validator(mode="after")
    def _fits_task(self) -> LabelledConfig:
        faults = []
        metrics = OF_CLASSES if self.task == "classification" else OF_NUMBERS
        if self.metric is not None and self.metric not in metrics:
            faults.append(Fault("metric", self.metric, f"one of {', '.join(metrics)} for {self.task}"))
        if self.task == "regression":
            for name in ("labels", "names", "balance"):
                if getattr(self, name):
                    faults.append(Fault(name, getattr(self, name), "leave it out; a regression has no classes"))
        if isinstance(self.valid, TableConfig) and (self.valid.pair is None) != (self.train.pair is None):
            allowed = "leave it out, as train.pair is" if self.valid.pair else "a column, as train.pair is one"
            faults.append(Fault("valid.pair", self.valid.pair, allowed))
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            faults.append(Fault("labels", self.labels, "two or more different classes"))
        if self.names and (len(self.names) != len(self.labels) or len(set(self.names)) < len(self.names)):
            faults.append(Fault("names", self.names, f"as many different names as `labels` has: {len(self.labels)}"))
        if faults:
            raise RefusedInput(faults)
        return self

    @property
    def targets(self) -> Targets:
        return "classes" if self.task == "classification" else "values"

    @property
    def watched(self) -> Metric:
        """`metric`, or its default."""
        return self.metric or DEFAULT_METRICS[self.task]
