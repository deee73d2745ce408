"""The console of the commands: a terminal, or a file or program that reads their output.

Law of this file: control characters in texts never reach a terminal. A search does not end because its progress cannot
be printed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import IO, Any, cast

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


class _Droppable:
    """A stream that drops what it cannot write: its reader has ended, its terminal is gone or its disk is full."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def console(*, stderr: bool = False, drops: bool = False) -> Console:
    """Standard output or standard error; without colours where NO_COLOR is set or where it is not a terminal.

    Parameters
    ----------
    stderr
        Standard error. Default: standard output.
    drops
        Drop what cannot be written. Default: raise an error.
    """
    stream = sys.stderr if stderr else sys.stdout
    about: dict[str, Any] = {"file": cast("IO[str]", _Droppable(stream))} if drops else {"stderr": stderr}
    made = _EscapingConsole(**about, highlight=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made = _EscapingConsole(**about, highlight=False, width=PIPE_WIDTH)
    return made
