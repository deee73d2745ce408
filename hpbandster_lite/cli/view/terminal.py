"""The console of the commands: a terminal, or a file or program that reads their output.

Law of this file: control characters in texts never reach a terminal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hpbandster_lite.process.log_format import escape_controls

PIPE_WIDTH = 1000
"""Columns without a terminal: a row of a table is one line then, for grep and awk. COLUMNS overrides it."""


class _EscapingConsole(Console):
    """A console that escapes control characters in texts: names, errors and logs come from other programs."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Pieces of text with their style; control codes of rich itself are segments of their own kind and pass."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)


def console(*, stderr: bool = False) -> Console:
    """Standard output or standard error; without colours where NO_COLOR is set or where it is not a terminal."""
    made = _EscapingConsole(stderr=stderr, highlight=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made = _EscapingConsole(stderr=stderr, highlight=False, width=PIPE_WIDTH)
    return made
