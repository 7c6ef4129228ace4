"""Validated types of names, paths and numbers in a run's small files, so that no path leads out of the run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espalier.config.base import NAME

StageName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Key = Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,64}$")]
"""Of a stage: the hash of all that its result depends on."""
CheckpointPath = Annotated[str, Field(pattern=f"^stages/{NAME.pattern}/step-[0-9]{{8,16}}$")]
"""Of a checkpoint in its run."""
TokenizerKey = Annotated[str, Field(pattern=r"^([0-9a-z][0-9a-z-]{0,63})?$")]
"""Of the hash that a tokenizer's folder is called by; empty for a model without one."""
SamplesPath = Annotated[str, Field(pattern=f"^records/samples/{NAME.pattern}/epoch-[0-9]{{4,12}}[.]parquet$")]
"""Of an epoch's table of samples in its run."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0.0, le=1e60)]
Time = Annotated[float, Field(ge=0.0, le=1e11)]
"""Unix seconds, of some thousand years at most."""
