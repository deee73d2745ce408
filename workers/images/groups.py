"""Groups of your own images, such as patients: from a column of a CSV file, or from a pattern of the pictures' names.

Law of this file: every picture has one group, or the groups are refused with the pictures that have none.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpbandster_lite.workers.images.image_data import Groups, ImageDataError

TABLES = frozenset({".csv", ".tsv"})
SHOWN = 3
_SIGNS_OF_A_PATTERN = re.compile(r"[\\()\[\].*+?^$|{}]")
_DELIMITERS = (",", ";", "\t")


class _Table(NamedTuple):
    """A CSV file: the names of its columns, and its further lines."""

    file: Path
    delimiter: str
    names: Sequence[str]
    lines: Sequence[str]

    def columns(self) -> Mapping[str, Sequence[str]]:
        """The values of each column.

        Raises
        ------
        ImageDataError
            If a line has another number of values.
        """
        values: dict[str, list[str]] = {name: [] for name in self.names}
        for number, row in enumerate(csv.reader(self.lines, delimiter=self.delimiter), start=2):
            if not any(row):
                continue
            if len(row) != len(self.names):
                raise ImageDataError(
                    f"{self.file}, line {number}: {len(row)} values for {len(self.names)} columns; correct it"
                )
            for name, value in zip(self.names, row, strict=True):
                values[name].append(value.strip())
        return values


def groups_of_pictures(folder: Path, paths: Sequence[str], group: str) -> Groups:
    """The groups of the pictures in a folder.

    Parameters
    ----------
    folder
        The folder of ``--data``.
    paths
        The pictures, relative to the folder.
    group
        A column of CSV files in the folder or just below it, in which another column has the names of the pictures; or
        a regular expression of a picture's path below the folder, whose first group in parentheses, or whose whole
        match, is the name of the picture's group.

    Raises
    ------
    ImageDataError
        If there is no such column, the pattern is none, or a picture has no group or several.
    """
    tables = _tables(folder)
    with_column = [table for table in tables if group in table.names]
    if with_column:
        found = _by_columns(with_column, paths, group)
    elif _SIGNS_OF_A_PATTERN.search(group):
        found = _by_pattern(paths, group)
    else:
        raise _no_column(folder, tables, group)
    lacking = [path for path, name in zip(paths, found, strict=True) if not name]
    if lacking:
        raise ImageDataError(
            f"--group {group}: {len(lacking):,} of {len(paths):,} pictures in {folder} have no group "
            f"({shown(lacking)}); name the group of each picture"
        )
    return numbered(found)


def _no_column(folder: Path, tables: Sequence[_Table], group: str) -> ImageDataError:
    columns = sorted({name for table in tables for name in table.names})
    has = f"they have {', '.join(map(repr, columns))}" if tables else "there is none"
    return ImageDataError(
        f"--group {group}: no CSV file in {folder} has this column ({has}); give a column, or a pattern of the "
        r"pictures' names, such as --group '(patient\d+)_'"
    )


def numbered(names: Iterable[object]) -> Groups:
    """Groups with numbers in the order of their names."""
    every, numbers = np.unique([str(name) for name in names], return_inverse=True)
    return Groups(numbers.astype(np.int64), tuple(every.tolist()))


def joined(parts: Sequence[Groups]) -> Groups:
    """The groups of several parts, which have the same names, one after the other."""
    return Groups(np.concatenate([part.numbers for part in parts]), parts[0].names)


def shown(names: Sequence[str]) -> str:
    """The first few of some names."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _by_pattern(paths: Sequence[str], group: str) -> list[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ImageDataError(f"--group {group} is no regular expression: {error}; correct it") from error
    matches = [pattern.search(path) for path in paths]
    return [(match[1 if pattern.groups else 0] or "") if match else "" for match in matches]


# ------------------------------------------------------------------------------------------------------- CSV files


def _tables(folder: Path) -> list[_Table]:
    """The CSV files of the folder and of the folders in it."""
    files = sorted(file for glob in ("*", "*/*") for file in folder.glob(glob) if file.suffix.lower() in TABLES)
    return [_read_table(file) for file in files if file.is_file() and not file.name.startswith(".")]


def _read_table(file: Path) -> _Table:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImageDataError(f"{file} cannot be read ({error}); correct its permissions") from error
    # Bytes of another encoding stay as they are, like those in names of files.
    lines = content.decode("utf-8-sig", "surrogateescape").splitlines() or [""]
    delimiter = max(_DELIMITERS, key=lines[0].count)
    names = [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter), [])]
    return _Table(file, delimiter, names, lines[1:])


def _by_columns(tables: Sequence[_Table], paths: Sequence[str], group: str) -> list[str]:
    """The groups that the tables give the pictures; empty for a picture that none of them names."""
    pictures = _named(paths)
    found = [""] * len(paths)
    for table in tables:
        columns = table.columns()
        others = [name for name in columns if name != group]
        counts = {name: sum(_key(value) in pictures for value in columns[name]) for name in others}
        naming = max(others, key=lambda name: counts[name], default=None)
        if naming is None or not counts[naming]:
            raise ImageDataError(
                f"--group {group}: no column of {table.file} has the names of the pictures, such as {paths[0]!r} or "
                f"{Path(paths[0]).name!r}; add one"
            )
        for value, name in zip(columns[naming], columns[group], strict=True):
            for row in _only(pictures.get(_key(value), []), paths, value, table.file):
                if found[row] not in ("", name):
                    both = f"{found[row]!r} and {name!r}"
                    raise ImageDataError(f"--group {group}: {paths[row]} has two groups, {both}; correct {table.file}")
                found[row] = name
    return found


def _only(rows: Sequence[int], paths: Sequence[str], value: str, file: Path) -> Sequence[int]:
    if len(rows) > 1:
        both = shown([paths[row] for row in rows])
        raise ImageDataError(f"{file}: {value!r} names {len(rows)} pictures ({both}); write the folder, too")
    return rows


def _key(value: str) -> str:
    return value.replace("\\", "/").removeprefix("./").lstrip("/")


def _named(paths: Sequence[str]) -> dict[str, list[int]]:
    """The rows of the pictures that a text may name: a path, its end, or the name without its suffix."""
    pictures = defaultdict(list)
    for row, path in enumerate(paths):
        parts = path.split("/")
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            for name in {end, end.rsplit(".", 1)[0]}:
                pictures[name].append(row)
    return dict(pictures)
