"""espalier: grow, prune, distill and correct language models, resumable anywhere."""

__version__ = "0.1.0"
