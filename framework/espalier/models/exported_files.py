"""A model's tokenizer and settings as an export writes them: readable by transformers 4 and 5."""

from __future__ import annotations

import json
from typing import Any

from espalier.models.families import shape_of
from espalier.models.model_files import CONFIG, SETTINGS, TOKENIZER_SETTINGS, ModelFiles, without_code
from espalier.models.positions import known_positions
from espalier.models.shape import ConfigDict

_NO_LENGTH = 10**9
"""What transformers writes for "unknown" is far above it, and no model's length is."""


def exported_files(files: ModelFiles, config: ConfigDict) -> dict[str, bytes]:
    """The files to write beside a model's weights, but for `config.json`, which the caller writes.

    Args:
        config: of the model.
    """
    written = {name: content for name, content in files.items() if name != CONFIG}
    for name in SETTINGS:
        if name in written:
            written[name] = _json(without_code(json.loads(written[name])))
    if TOKENIZER_SETTINGS in written or "tokenizer.json" in written:
        settings = json.loads(written.get(TOKENIZER_SETTINGS, b"{}"))
        written[TOKENIZER_SETTINGS] = _json(_readable(settings) | {"model_max_length": _length(settings, config)})
    return written


def _readable(settings: dict[str, Any]) -> dict[str, Any]:
    """Tokenizer settings under the names that transformers 4 knows; 5 reads those as well."""
    kept = {name: value for name, value in settings.items() if name not in ("backend", "is_local", "local_files_only")}
    if kept.get("tokenizer_class") == "TokenizersBackend":
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
        kept.setdefault("model_input_names", ["input_ids", "attention_mask"])  # as 5 has it; 4 adds segments
    if isinstance(kept.get("extra_special_tokens"), list):
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    return kept


def _length(settings: dict[str, Any], config: ConfigDict) -> int:
    """The longest text that the model reads: as its tokenizer says, and never more than the table of positions has."""
    given, table = settings.get("model_max_length"), shape_of(config).positions
    known = [int(given)] if isinstance(given, int | float) and 0 < given < _NO_LENGTH else []
    if table:
        return min([table, *known])
    return known[0] if known else known_positions(config)


def _json(settings: dict[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()
