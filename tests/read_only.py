"""A directory into which this process may not write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Remove this process's permission to write there; root, which ignores modes, becomes another user meanwhile."""
    is_root = os.geteuid() == 0
    hidden = [parent for parent in directory.parents if is_root and not parent.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode for path in (*hidden, directory, *directory.iterdir())}
    for path in hidden:
        path.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o777 if path.is_dir() else 0o444)
    directory.chmod(0o555)
    if is_root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)
