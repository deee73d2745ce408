"""What ``doctor`` prints.

Law of this file: values in, text out; :mod:`hpbandster_lite.doctor` finds them.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from hpbandster_lite.cli.view.formats import value_text
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.records import Plain

SIZES = (
    *("total", "available", "limit of the container", "swap", "swap used", "memory", "memory used", "size", "free"),
    *("journal", "size of a file"),
)
"""Names of values that are bytes."""


def print_report(out: Console, report: Mapping[str, Plain]) -> None:
    """What looks wrong, then the answer of each probe as a table."""
    findings = report["findings"]
    for finding in findings:
        out.print(f"! {finding}", style="yellow", markup=False, soft_wrap=True)
    if not findings:
        out.print("nothing looks wrong")
    for name, answer in report.items():
        if not isinstance(answer, Mapping):
            continue
        out.print(f"\n[b]{escape(name)}[/]")
        table = plain_table()
        table.show_header = False
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in answer.items():
            table.add_row(escape(key), escape(_text(key, value)))
        out.print(table if answer else "none")


def _text(name: str, value: Plain) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name in SIZES:
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(key, each)}" for key, each in value.items())
    if isinstance(value, list):
        mark = "; " if any(isinstance(each, Mapping) for each in value) else ", "
        return mark.join(_text("", each) for each in value) or "-"
    return value_text(value)
