"""What was done to a cluster, what was seen, and how long it took."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Abandoned(Exception):
    """A row failed, and those after it build on it."""


@dataclass
class Row:
    """One line of the table. `seen` grows while the row is played."""

    scenario: str
    what: str
    seen: list[str] = field(default_factory=list)
    seconds: float = 0.0
    fault: str = ""

    def __str__(self) -> str:
        verdict = "NOT " if self.fault else "ok  "
        text = "; ".join([*self.seen, *filter(None, [self.fault])])
        return f"{verdict} {self.scenario:<8} {self.seconds:>6.1f} s  {self.what}: {text}"


@dataclass
class Table:
    """The rows played so far; each is printed when it ends, and all of them once more at the end."""

    rows: list[Row] = field(default_factory=list)

    @contextmanager
    def row(self, scenario: str, what: str) -> Iterator[list[str]]:
        """Play a row inside the block; what is appended to the yielded list is shown as seen.

        Raises:
            Abandoned: the block raised, and the row says so.
        """
        row = Row(scenario, what)
        self.rows.append(row)
        began = time.monotonic()
        try:
            yield row.seen
        except (Exception, KeyboardInterrupt) as error:
            row.fault = f"{type(error).__name__}: {str(error).strip() or traceback.extract_tb(error.__traceback__)[-1]}"
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Abandoned from error
        finally:
            row.seconds = time.monotonic() - began
            print(row, flush=True)

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows))

    @property
    def is_good(self) -> bool:
        return bool(self.rows) and not any(row.fault for row in self.rows)
