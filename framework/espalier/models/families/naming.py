"""Names of tensors in published folders, matched with the names of `named_parameters()`."""

from __future__ import annotations

from collections.abc import Iterable

_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", "position_ids")


def published_names(found: Iterable[str], expected: Iterable[str], *, prefix: str, tied: bool) -> dict[str, str]:
    """Found name -> the parameter's name, for every tensor that is a parameter or pretends to be one.

    Older folders store the body alone, without its prefix, carry buffers that are computed today, or store a tied
    head beside the embedding it equals. Those buffers and that head are left out, and so is the head of a language
    model that becomes a classifier; what remains unknown keeps its name, for the caller to refuse.
    """
    found, expected = set(found), set(expected)
    bare = bool(prefix) and not any(name.startswith(f"{prefix}.") for name in found)
    named = {}
    for name in found:
        if name.endswith(_BUFFERS) or (name == "lm_head.weight" and (tied or name not in expected)):
            continue
        full = f"{prefix}.{name}" if bare and f"{prefix}.{name}" in expected else name
        named[name] = full
    return named
