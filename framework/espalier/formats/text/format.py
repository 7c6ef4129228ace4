"""Data format `text`: running text, packed into sequences or one document each."""

from __future__ import annotations

from espalier.config.data import DataConfig
from espalier.config.format import DataFormat

FORMAT = DataFormat(
    name="text",
    settings=DataConfig,
    look="espalier.formats.text.look:look",
    sequences="espalier.formats.text.sequences:sequences",
    fingerprint="espalier.data.fingerprint:fingerprint_of_text",
    split_fingerprints="espalier.data.fingerprint:text_fingerprints",
    documents="espalier.data.split:split_documents",
    marked_by=None,
)
