"""Sizes that planning and workers share."""

from __future__ import annotations

SAMPLE_TOKENS = 40
"""Number of tokens that a model generates after each prompt."""
