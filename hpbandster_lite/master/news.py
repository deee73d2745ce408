"""What a master reports to the launcher that started it: that it waits for the run directory or has it, and notes.

Law of this file: one line for each report, short enough for the pipe to take it whole; a launcher that is gone is no
error. The launcher starts no worker before its master has the directory: the worker would find another master there.
"""

from __future__ import annotations

import contextlib
import os

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.rundir import RunDirectory, in_words, read_holder

HAS_DIRECTORY = "has the run directory"
WAITS = "waiting "


def send_news(descriptor: int | None, news: str) -> None:
    """Report one line, if there is a launcher."""
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(descriptor, f"{' '.join(news.split())}\n".encode())


def served_by_another(directory: RunDirectory) -> str:
    """Why a master refuses to start: another one has the run directory, and where it is."""
    holder, endpoint = read_holder(directory.holder_file), None
    with contextlib.suppress(RunDirectoryError):
        endpoint = directory.read_endpoint()
    if holder is None:
        which, where = "another process", ""
    else:
        # The endpoint of a master that was killed stays until the next one serves.
        is_its = endpoint is not None and endpoint["pid"] == holder.pid
        which = in_words(holder)
        if endpoint is not None and is_its:
            which = f"pid {holder.pid} at {endpoint['host']}:{endpoint['port']}"
        where = f" on host {holder.host}"
    return f"{directory.path} is served by another master ({which}); stop it{where}, or give another run directory"
