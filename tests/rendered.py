"""The output of rich as lines of text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def text_of(content: RenderableType, width: int = 100) -> list[str]:
    """The printed lines without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(content)
    return [line.rstrip() for line in console.export_text().splitlines()]
