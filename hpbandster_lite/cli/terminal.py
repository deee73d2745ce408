"""Where the commands write: the terminal, or a file or program that reads their output."""

from __future__ import annotations

import os

from rich.console import Console

PIPE_WIDTH = 1000
"""Columns where nobody looks: a row of a table is one line there, for grep and awk, unless COLUMNS says otherwise."""


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error; without colours where NO_COLOR is set, or where it is no terminal."""
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made = Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)
    return made
