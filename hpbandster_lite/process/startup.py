"""The briefing of a child process: its options, on one line of its standard input.

Law of this file: the process can start, and import slow libraries, before its options are known. It waits for one line,
and ends silently if there is none. A command line would be visible to every user of the machine, and its limit of
128 KiB is too small for a large search space.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hpbandster_lite.records import Plain

READ_BRIEFING = "-"
"""The argument that makes a process read its briefing."""


def briefing_line(options: Plain, log: Path | None) -> bytes:
    """Write the line that :func:`read_briefing` reads."""
    return json.dumps({"options": options, "log": None if log is None else str(log)}).encode("ascii") + b"\n"


def read_briefing() -> Plain:
    """Wait for the briefing, then redirect this process's output to the log that the briefing names.

    Returns
    -------
    Plain
        The options; None if the parent process closed the pipe without a briefing.
    """
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return None
    briefing = json.loads(line)
    if briefing["log"] is not None:
        log = os.open(briefing["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
    return briefing["options"]
