"""A tiny job that grows: lessons, more layers, more width, a cut, and what it all measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.tiny import write_job


def trained(name: str, student: str, **settings: Any) -> dict[str, Any]:
    """A stage that trains for a few steps."""
    return {
        "name": name,
        "kind": "train",
        "student": student,
        "budget": {"steps": 4},
        "batch": {"sequences": 8, "microbatch_sequences": 2},
        "optimizer": {"lr": 0.003, "schedule": "wsd"},
        "zero_level": "none",
        "checkpoint": {"every": 2},
        **settings,
    }


def growing_stages(root: Path, zero_level: str = "none") -> list[dict[str, Any]]:
    """Lessons with three layers, six layers, twice the neurons, four layers again."""
    level = {"zero_level": zero_level}
    return [
        {"name": "parent", "kind": "load", "model": str(root / "model")},
        trained("lessons", "parent", lessons={"depth": 6, "sampler": "uniform"}, **level),
        {"name": "deep", "kind": "grow", "student": "lessons", "target": {"layers": 6}, "operator": "interpolate"},
        trained("later", "deep", optimizer_state="keep", **level),
        {"name": "wide", "kind": "grow", "student": "later", "target": {"ffn": 106, "heads": 12}, "noise": 0.01},
        trained("last", "wide", optimizer_state="keep", **level),
        {
            "name": "slim",
            "kind": "prune",
            "student": "last",
            "target": {"layers": 4},
            "calibration": {"samples": 4, "microbatch_sequences": 2},
        },
        {"name": "score", "kind": "evaluate", "model": "last", "against": ["lessons", "slim"], "sequences": 6},
        {
            "name": "unrolled",
            "kind": "evaluate",
            "model": "lessons",
            "unrolled": {"depth": 6},
            "against": ["deep"],
            "sequences": 6,
        },
        {"name": "out", "kind": "export", "model": "last", "dtype": "float32"},
    ]


def write_growing_job(root: Path, *, zero_level: str = "none", **changes: Any) -> Path:
    """Model, text and job file below `root`; the path of the job file."""
    return write_job(root, stages=growing_stages(root, zero_level), **changes)
