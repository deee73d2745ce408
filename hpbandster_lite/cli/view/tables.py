"""Tables of names and values, and the layout of every table.

Law of this file: values in, tables out; it reads and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from hpbandster_lite.cli.view.formats import value_text
from hpbandster_lite.records import Plain


def plain_table(title: str = "") -> Table:
    """A table without lines, as every command prints it: it is readable in a log and through a pipe, too."""
    return Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
                 padding=(0, 2, 0, 0), header_style="dim")  # fmt: skip


def values_table(heading: str, values: Mapping[str, Plain]) -> Table:
    """Names and values, one a line."""
    table = plain_table()
    table.add_column(heading)
    table.add_column("value", overflow="fold")
    for name, value in values.items():
        table.add_row(escape(name), escape(value_text(value)))
    return table


def figures_table(columns: Mapping[str, Mapping[str, Plain]]) -> Table:
    """Figures by name, validation beside test; a dash where one of them has no such figure."""
    table = plain_table()
    table.add_column("")
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        table.add_row(escape(name), *(escape(_figure_text(figures.get(name))) for figures in columns.values()))
    return table


def _figure_text(value: Plain) -> str:
    """A figure in one line: of records, such as those of folds, the number alone."""
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        return f"{len(value)} records"
    return value_text(value)
