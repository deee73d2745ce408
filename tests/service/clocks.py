"""The wall clock of one process, which libfaketime sets; the monotonic clock stays right."""

from __future__ import annotations

import os
from pathlib import Path

from hpbandster_lite.rundir import write_atomically

LIBRARIES = sorted(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))
"""Empty if libfaketime is not installed."""
SLEEP = """
# Python sleeps until a time of the monotonic clock, which libfaketime shifts all the same: EINVAL.
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class WallClock:
    """The wall clock of one process, which a test can set; the monotonic clock stays right."""

    def __init__(self, place: Path) -> None:
        self._file = place / "faketime"
        self._modules = place / "modules"
        self._modules.mkdir(parents=True)
        (self._modules / "sitecustomize.py").write_text(SLEEP)
        self.jump(0)

    def jump(self, days: int) -> None:
        """Set the clock ``days`` days later than the true time."""
        write_atomically(self._file, f"{days:+d}d\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self._modules), os.environ.get("PYTHONPATH")))),
        }
