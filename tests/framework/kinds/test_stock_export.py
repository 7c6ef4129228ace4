"""An export that stock transformers would answer otherwise from than it was measured is never there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espalier.checkpoint.read import StateReader
from espalier.config.faults import RefusedInput
from espalier.kinds.export import work as export
from espalier.storage.local import LocalStorage
from support.architectures import CONFIGS, WINDOWED
from support.models import save_initial

WRONG = {
    "llama": {"rms_norm_eps": 0.3},
    "llama_tied": {"rope_parameters": {"rope_type": "default", "rope_theta": 3.0}},
    "llama_classifier": {"pad_token_id": 16},
    "mistral_window": {"sliding_window": None},
    "gpt2": {"activation_function": "relu"},
    "bert_masked_lm": {"layer_norm_eps": 0.3},
    "bert_classifier": {"layer_norm_eps": 0.3},
}


def write(root: Path, config: dict[str, object], monkeypatch: pytest.MonkeyPatch, dtype: str = "float32") -> Path:
    reader: StateReader = save_initial(root, "state", config, seed=1)
    monkeypatch.setattr(export, "read_model_files", lambda folder, setting: {})
    monkeypatch.setattr(export, "exported_files", lambda files, config: {})
    monkeypatch.setattr(export, "model_card", lambda run, model: "card")
    monkeypatch.setattr(export, "_read_as", lambda run, stage: {})

    class Run:
        def tokenizer(self, key: str) -> Path:
            return root

    export.write(Run(), reader, LocalStorage(root), "out", dtype=dtype)
    return root / "out"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [*CONFIGS, *WINDOWED])
def test_an_export_with_equal_logits_is_written(
    name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path, (CONFIGS | WINDOWED)[name], monkeypatch, dtype)
    assert json.loads((made / "config.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize("name", WRONG)
def test_an_export_with_other_logits_is_refused_and_removed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = export._stock
    monkeypatch.setattr(export, "_stock", lambda config, dtype: stock(config, dtype) | WRONG[name])
    with pytest.raises(RefusedInput, match=r"`out` would answer otherwise in stock transformers"):
        write(tmp_path, (CONFIGS | WINDOWED)[name], monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
