"""Sizes that planning and the work itself must agree on."""

from __future__ import annotations

SAMPLE_TOKENS = 40
"""That a model writes after each prompt."""
