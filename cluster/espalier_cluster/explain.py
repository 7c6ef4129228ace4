"""`espalier explain`: print the settings of a part of the job file."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.jobs.settings import Setting, settings, summary, topics


def explain_topics(console: Console) -> None:
    """Print the parts of a job file that can be explained, with a sentence each."""
    for name, part in topics().items():
        console.print(Text(name, style="bold"))
        console.print(Padding(Text(summary(part)), (0, 0, 0, 4), expand=False))


def explain_topic(console: Console, topic: str) -> None:
    """Print every setting of a part: its default, its allowed values, what it does.

    Raises:
        RefusedInput: no such part.
    """
    known = topics()
    if topic not in known:
        raise RefusedInput([Fault("topic", topic, f"one of {', '.join(known)}", nearest(topic, known))])
    console.print(Text(summary(known[topic])))
    for setting in settings(known[topic]):
        console.print(_line(setting))
        if setting.text:
            console.print(Padding(Text(setting.text), (0, 0, 0, 8), expand=False))


def _line(setting: Setting) -> Padding:
    line = Text(setting.path, style="bold")
    line.append(" (required)" if setting.default is None else f" = {setting.default}", style="cyan")
    line.append(f"  {setting.allowed}", style="not bold dim")
    return Padding(line, (0, 0, 0, 4), expand=False)
