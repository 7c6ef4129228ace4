"""Reading a plain model folder, as stock transformers writes it: config.json and safetensors.

Such a folder may come from anyone: nothing in it is unpickled, and no name in it reaches outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from espalier.checkpoint.published_files import published_storage
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import Storage

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ModelFolder:
    """A model in Hugging Face layout.

    Attributes:
        config: content of config.json.
        shapes: of every stored tensor, by name.
        read: gives a whole tensor by name, on the CPU, in memory of its own.
        files: further files to write, by name: tokenizer, generation settings, model card.
    """

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    files: Mapping[str, bytes] = field(default_factory=dict)


def tensors_of(folder: Path, *, setting: str = "model") -> ModelFolder:
    """Open a model folder.

    Reads headers only; the safetensors library bounds them at 100 MB and refuses tensors that overlap.

    Args:
        setting: path of the setting that names the folder, for messages.

    Raises:
        RefusedInput: no such folder, no config, pickled weights, or files that are missing, damaged, or not
            what the index says; every such file at once.
    """
    source = _Source(*published_storage(folder), f"{setting} ({folder})")
    config = source.json(CONFIG)
    files = source.weights()
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
    return ModelFolder(config, shapes, lambda name: files[name].get_tensor(name).clone())


@dataclass(frozen=True)
class _Source:
    """A model folder that is being opened."""

    storage: Storage
    folder: str
    setting: str

    def json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self.storage.read_bytes(f"{self.folder}/{name}", max_bytes=_MAX_JSON_BYTES))
        except FileNotFoundError:
            raise self.refused("", None, f"a model folder with a `{name}`") from None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self.refused("", name, "a readable JSON object; fetch the model again")
        return value

    def weights(self) -> dict[str, safe_open]:
        """The opened file of each tensor."""
        names = self.storage.list(self.folder)
        if WEIGHTS in names:
            file = self.open(WEIGHTS)
            return dict.fromkeys(file.keys(), file)
        if INDEX in names:
            return self.indexed()
        pickled = ", ".join(name for name in names if name.endswith(_PICKLED))
        remedy = f"`{WEIGHTS}`, or shards with `{INDEX}`"
        if pickled:
            remedy += "; pickled weights can run code: where you trust them, load them once and `save_pretrained`"
        raise self.refused("", pickled or None, remedy)

    def indexed(self) -> dict[str, safe_open]:
        weight_map = self.json(INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise self.refused(INDEX, weight_map, "a `weight_map` of tensor names to file names")
        opened: dict[str, safe_open] = {}
        faults: list[Fault] = []
        for name in sorted(set(weight_map.values())):
            try:
                opened[name] = self.open(name)
                named = {tensor for tensor, file in weight_map.items() if file == name}
                for tensor in sorted(named - set(opened[name].keys())):
                    faults += self.refused(tensor, None, f"a tensor in `{name}`, as the index says").faults
            except RefusedInput as refused:
                faults += refused.faults
        if faults:
            raise RefusedInput(faults)
        return {tensor: opened[name] for tensor, name in weight_map.items()}

    def open(self, name: str) -> safe_open:
        if not _PLAIN_NAME.fullmatch(name):
            raise self.refused(INDEX, name, "names of safetensors files in the same folder")
        try:
            return self.storage.open_tensors(f"{self.folder}/{name}")
        except FileNotFoundError:
            raise self.refused(name, None, "every file that the index names; fetch the model again") from None
        except SafetensorError as error:
            raise self.refused(name, str(error), "a whole safetensors file; fetch the model again") from None

    def refused(self, part: str, value: object, allowed: str) -> RefusedInput:
        return RefusedInput([Fault(f"{self.setting}: {part}" if part else self.setting, value, allowed)])
