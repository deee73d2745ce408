"""Modules that a process of multiprocessing cannot import by their names, such as that of ``net.v2.py``.

Law of this file: it imports nothing slow, because such a process runs it as its main module. The process gets the path
of modules from its parent, and there an entry for each such module, which is no folder and which other finders ignore.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME = "hpbandster_lite.process.spawned"
PREFIX = "hpbandster_lite-module:"
"""Begins an entry of ``sys.path`` that names a module and its file."""


class Finder:
    """Finds modules by the files that belong to their names."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is not in Python's cache."""
        file = self._files.get(name)
        return None if file is None else importlib.util.spec_from_file_location(name, file)


def make_importable(name: str, file: str | os.PathLike[str]) -> None:
    """Let processes that this one spawns import a module from its file."""
    entry = f"{PREFIX}{name}={os.fspath(file)}"
    if entry not in sys.path:
        sys.path.append(entry)
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    is_command = spec is None and Path(getattr(main, "__file__", None) or "").name.startswith("hpbandster")
    if main is not None and (is_command or (spec is not None and spec.name.startswith("hpbandster_lite."))):
        # A spawned process runs the module of this name as its main module. It would run ours, too, but none of them
        # is needed there, and it skips a package's __main__.
        main.__spec__ = ModuleSpec(NAME, None)


def files_in(path: Iterable[str]) -> dict[str, str]:
    """The files by the names of modules, from the entries of a path of modules."""
    entries = (entry.removeprefix(PREFIX).partition("=") for entry in path if str(entry).startswith(PREFIX))
    return {name: file for name, _, file in entries}


if __name__ == "__mp_main__":
    # The name that multiprocessing gives to the main module of a spawned process.
    sys.meta_path.append(Finder(files_in(sys.path)))
