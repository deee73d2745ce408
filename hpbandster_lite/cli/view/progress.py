"""The progress of a search: a live view on a terminal, log lines elsewhere.

Law of this file: it shows each status that it receives; :mod:`hpbandster_lite.cli.view.status` draws the picture.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeAlias

from rich.console import Console
from rich.live import Live

from hpbandster_lite.cli.view.plan import introduce
from hpbandster_lite.cli.view.status import headline, incumbent_line, status_view
from hpbandster_lite.launch.local_search import Watcher
from hpbandster_lite.protocol.status import Status
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared

Completed: TypeAlias = Callable[[RunDirectory, Status], Status]
"""Adds to a master's status what only the journal has: the forecast."""
LINE_EVERY_S = 10.0
"""Seconds between two log lines at first; later a tenth of the time that has passed, so that a log stays short."""
LINE_AT_LEAST_EVERY_S = 600.0


class LiveWatcher:
    """Renews the picture in place.

    Parameters
    ----------
    console, live
        Where notes are printed, and the picture.
    completed
        Completes a status with what the journal has.
    """

    def __init__(self, console: Console, live: Live, completed: Completed) -> None:
        self._console = console
        self._live = live
        self._completed = completed
        self._directory: RunDirectory | None = None

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """The plan, before anything runs."""
        self._directory = directory
        introduce(self._console, prepared, directory)

    def status(self, status: Status) -> None:
        """Renew the picture."""
        if self._directory is not None:
            status = self._completed(self._directory, status)
        self._live.update(status_view(status, height=self._console.height), refresh=True)

    def note(self, text: str) -> None:
        """One line above the picture."""
        self._console.print(text, markup=False)


class LineWatcher:
    """Lines for logs: often at first, less often later, and at once when the incumbent or the state changes.

    Parameters
    ----------
    console
        Where they are printed.
    completed
        Completes a status with what the journal has.
    clock
        Monotonic clock, in seconds.
    """

    def __init__(
        self,
        console: Console,
        completed: Completed,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._completed = completed
        self._clock = clock
        self._began_at = clock()
        self._next_line_at = self._began_at
        self._last = ""
        self._directory: RunDirectory | None = None

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """The plan, before anything runs."""
        self._directory = directory
        introduce(self._console, prepared, directory)

    def status(self, status: Status) -> None:
        """The totals and the incumbent, if a line is due, or if the incumbent or the state has changed."""
        now = self._clock()
        is_stalled = status.journal_stalled_s is not None
        shown = f"{status.state} {status.paused} {is_stalled} {incumbent_line(status)}"
        if now < self._next_line_at and shown == self._last:
            return
        if self._directory is not None:
            status = self._completed(self._directory, status)
        pause_s = (now - self._began_at) / 10
        self._next_line_at = now + min(max(LINE_EVERY_S, pause_s), LINE_AT_LEAST_EVERY_S)
        self._last = shown
        self._print(headline(status))

    def note(self, text: str) -> None:
        """One line."""
        self._print(text)

    def _print(self, text: str) -> None:
        # Local time, as in every log.
        self._console.print(f"{datetime.now().astimezone():%H:%M:%S} {text}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def watcher_for(console: Console, completed: Completed, *, live: bool) -> Iterator[Watcher]:
    """The live view on a terminal, lines elsewhere."""
    if not live:
        yield LineWatcher(console, completed)
        return
    with Live(console=console, auto_refresh=False, transient=False) as view:
        yield LiveWatcher(console, view, completed)
