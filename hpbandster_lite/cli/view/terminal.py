"""Where the commands write: the terminal, or a file or program that reads their output."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hpbandster_lite.process.log_format import escape_controls

PIPE_WIDTH = 1000
"""Columns where nobody looks: a row of a table is one line there, for grep and awk, unless COLUMNS says otherwise."""


class _HarmlessConsole(Console):
    """Prints what it is given, but no control character that stands in a text: names, errors and logs are others'."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Pieces of text with their style; what controls the terminal on purpose is no text, and is let through."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error; without colours where NO_COLOR is set, or where it is no terminal."""
    made = _HarmlessConsole(stderr=stderr, highlight=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made = _HarmlessConsole(stderr=stderr, highlight=False, width=PIPE_WIDTH)
    return made
