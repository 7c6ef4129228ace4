"""Committed state on disk: fragments, a hashed manifest renamed last, plain model folders for others.

Read in this order: `fragments` (what is stored), `manifest` (what makes it a checkpoint), `bases` (where the rest of
a model is of which a part was trained), `write` and `read` (both ways), `steps` (many of them), `huggingface` and
`export` (plain model folders), `lock` (one run at a time). Files are touched through the room `storage` alone.
"""
