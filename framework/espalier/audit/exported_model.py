"""An exported classifier or regressor, opened to answer for texts as it was trained to read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from espalier.checkpoint.export_mark import export_hash
from espalier.checkpoint.huggingface import tensors_of
from espalier.config.base import Record
from espalier.config.faults import Fault, RefusedInput
from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences, Part
from espalier.distributed.world import World
from espalier.evaluation.answers import all_answers, probabilities
from espalier.models.architecture import is_classifier
from espalier.models.build import build_network
from espalier.models.families import is_causal, num_outputs
from espalier.models.model_files import read_model_files
from espalier.models.network import Network
from espalier.models.pretrained import PretrainedTokenizer, open_tokenizer, read_config
from espalier.models.published import check_published
from espalier.models.shape import ConfigDict
from espalier.storage.records import parse_record

READ_AS = "espalier_data"
"""The key of an export's config.json with how labelled data was read in training."""


class ReadAs(Record):
    """How labelled samples were read in training.

    Attributes:
        text, pair: columns of the training table.
    """

    sequence_tokens: int = Field(ge=8)
    text: str
    pair: str | None = None


@dataclass(frozen=True)
class Answered:
    """What a model answers for N texts.

    Attributes:
        answers: [N, K] probabilities, or [N, 1] values.
        num_tokens: [N] of each text as the model reads it, special tokens included.
    """

    answers: NDArray[np.float64]
    num_tokens: NDArray[np.int64]


@dataclass(frozen=True)
class ExportedModel:
    """A model folder that was checked, in float32 on one device.

    Attributes:
        names: of the classes; empty for a regression.
        read_as: as the export says; None for one of an earlier version.
        xxh3: hash of the export.
    """

    folder: Path
    config: ConfigDict
    names: tuple[str, ...]
    read_as: ReadAs | None
    xxh3: str
    tokenizer: PretrainedTokenizer
    network: Network
    world: World

    @staticmethod
    def open(folder: Path, *, setting: str) -> ExportedModel:
        """Check every file of an export and load it, on a GPU where there is one.

        Raises:
            RefusedInput: no export, one that was changed, or a model without classes or values.
        """
        if not folder.is_dir():
            raise RefusedInput([Fault(setting, str(folder), "the folder of an exported model")])
        xxh3 = export_hash(folder)
        given = read_config(folder, setting=setting)
        if not is_classifier(given):
            allowed = "an exported classifier or regressor, which a job over labelled data makes"
            raise RefusedInput([Fault(setting, str(folder), allowed)])
        names = () if given.get("problem_type") == "regression" else _class_names(given)
        published = check_published(folder, outputs=names, head="auto", setting=setting)
        tokenizer = open_tokenizer(read_model_files(folder, setting=setting), folder=str(folder), setting=setting)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = build_network(published.config, dtype=torch.float32, device=device).eval().requires_grad_(False)
        stored = tensors_of(folder, setting=setting)
        for name, parameter in network.model.named_parameters():
            parameter.copy_(stored.read(published.sources[name]))
        read_as = _read_as(given, folder)
        world = World(0, 1, device)
        return ExportedModel(folder, published.config, names, read_as, xxh3, tokenizer, network, world)

    def answer(self, examples: Examples, *, max_tokens: int, microbatch_sequences: int = 32) -> Answered:
        """Answer for samples, whose targets do not count. Texts of about one length share a microbatch."""
        samples = LabelledSequences.of(
            examples,
            self.tokenizer,
            max_tokens=max_tokens,
            read_at="last" if is_causal(self.config) else "first",
            pad_id=self.config.get("pad_token_id"),
        )
        num_tokens = np.array([len(one.ids) for one in samples.encoded], dtype=np.int64)
        order = np.argsort(num_tokens, kind="stable")
        found = np.empty((len(samples), num_outputs(self.config)))
        with torch.no_grad():
            found[order] = probabilities(
                all_answers(
                    self.network,
                    Part(samples, order),
                    width=found.shape[1],
                    microbatch_sequences=microbatch_sequences,
                    world=self.world,
                )
            )
        return Answered(found, num_tokens)


def unlabelled(names: Sequence[str], texts: Sequence[str], pairs: Sequence[str] | None) -> Examples:
    """Samples without labels."""
    count = len(texts)
    return Examples(
        tuple(names),
        tuple(texts),
        None if pairs is None else tuple(pairs),
        np.zeros(count, dtype=np.int64),
        np.ones(count),
    )


def _read_as(config: dict[str, Any], folder: Path) -> ReadAs | None:
    if READ_AS not in config:
        return None
    content, remedy = json.dumps(config[READ_AS]).encode(), "what espalier wrote there; export the model again"
    return parse_record(
        ReadAs, content, path=folder / f"config.json: {READ_AS}", what="way to read data", remedy=remedy
    )


def _class_names(config: dict[str, Any]) -> tuple[str, ...]:
    found = config.get("id2label") or {}
    return tuple(str(name) for _, name in sorted(found.items(), key=lambda item: int(item[0])))
