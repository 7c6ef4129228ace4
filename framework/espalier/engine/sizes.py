"""Sizes of buffers, where planning can read them without loading torch."""

BUCKET_ELEMENTS = 50_000_000
"""Gradients and weights travel between workers in buckets of this size; DeepSpeed's own 5e8 would hold gigabytes."""
