"""How a process is told what to do by who starts it, on a line of its standard input.

Law of this file: the process may be started, and import what takes long, before it is known what it is to do; it waits
for one line, and ends without a word if none comes. On a command line the same would be seen by every user of the
machine, and end at 128 KiB, which a large search space exceeds.
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
    """The line that :func:`read_briefing` reads."""
    return json.dumps({"options": options, "log": None if log is None else str(log)}).encode("ascii") + b"\n"


def read_briefing() -> Plain:
    """What this process is to do, once it is told; its output goes to the log that is named with it from then on.

    Returns
    -------
    Plain
        The options; None if whoever started this process has changed its mind, or is gone.
    """
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return None
    told = json.loads(line)
    if told["log"] is not None:
        log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
    return told["options"]
