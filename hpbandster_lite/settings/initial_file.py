"""A file with configurations to evaluate first: JSON, JSON lines or CSV.

Law of this file: it reads rows and knows no space. A cell of a CSV file stays a text, and an empty one is left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError, did_you_mean
from hpbandster_lite.records import Values

TABLES = (".csv", ".tsv")
_REMEDY = (
    'give a JSON file with a list of configurations such as [{"lr": 0.1, "depth": 3}], JSON lines with one '
    "configuration each, or a CSV file whose first line names the hyperparameters"
)


def read_initial(path: Path, option: str = "--initial") -> tuple[Values, ...]:
    """Configurations to evaluate first, from hyperparameter to value: one or a list in JSON, JSON lines, or CSV.

    Parameters
    ----------
    path
        Of the file; one that ends in .csv or .tsv is a table.
    option
        How the user gave it, for errors.

    Raises
    ------
    UsageError
        If the file cannot be read or holds anything else.
    """
    where = f"{option} {path}"
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside, otherwise="")
        raise UsageError(f"{where}: there is no such file{near or f'; {_REMEDY}'}") from error
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}; {_REMEDY}") from error
    except ValueError as error:
        raise UsageError(f"{where}: {error}; {_REMEDY}") from error
    if path.suffix.lower() in TABLES:
        return _rows(text, where)
    content = _json(text, where)
    if isinstance(content, dict):
        return (content,)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise UsageError(f'{where}: expected a list of objects such as [{{"lr": 0.1, "depth": 3}}]; {_REMEDY}')
    return tuple(content)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_of_pairs)
    except ValueError as error:
        whole = error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    found: list[Any] = []
    number = 0
    try:
        for number, line in lines:  # noqa: B007 (the number of the faulty line)
            found.append(json.loads(line, object_pairs_hook=_of_pairs))
    except ValueError as error:
        # If even the first line is no JSON, the file has no JSON lines.
        fault = f", line {number}: {error}" if found else f": {whole}"
        raise UsageError(f"{where}{fault}; {_REMEDY}") from error
    if not found:
        raise UsageError(f"{where} is empty; {_REMEDY}")
    return found


def _of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {repeated!r} has two values")
    return values


def _rows(text: str, where: str) -> tuple[Values, ...]:
    # Imported here: a command that reads no table needs no numpy.
    from hpbandster_lite.space import Cell

    header = next(iter(text.splitlines()), "")
    delimiter = next((each for each in (",", "\t", ";") if each in header), ",")
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[Mapping[str, Any]] = []
    try:
        names = [name.strip() for name in next(table, [])]
        if not any(names) or len(set(names)) < len(names):
            raise UsageError(f"{where}: the first line is {header!r:.100}, without different names; {_REMEDY}")
        for cells in table:
            if len(cells) > len(names):
                counts = f"{len(cells)} cells for {len(names)} names"
                raise UsageError(f"{where}, line {table.line_num}: {counts}; {_REMEDY}")
            row = {name: Cell(cell) for name, cell in zip(names, cells, strict=False) if name and cell.strip()}
            if cells:
                found.append(row)
    except csv.Error as error:
        raise UsageError(f"{where}, line {table.line_num}: {error}; {_REMEDY}") from error
    if not found:
        raise UsageError(f"{where} has no line with values after the first; {_REMEDY}")
    return tuple(found)
