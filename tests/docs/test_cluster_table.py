"""Each row of the table of faults names existing tests."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "docs" / "cluster.md"
HEADING = "## What happens when"


def rows(text: str) -> list[str]:
    """Rows of the table below the heading."""
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return table[2:]


@functools.cache
def known_tests() -> set[str]:
    return {
        node.name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", rows(CLUSTER.read_text("utf-8")), ids=lambda row: row[2:50])
def test_each_row_names_existing_tests(row: str) -> None:
    comments = re.findall(r"<!-- (.*?) -->", row)
    named = [name for comment in comments for name in comment.split()]
    assert named, f"name the test of this row in a comment: {row}"
    assert set(named) <= known_tests(), sorted(set(named) - known_tests())


def test_the_table_has_rows() -> None:
    assert len(rows(CLUSTER.read_text("utf-8"))) >= 15
