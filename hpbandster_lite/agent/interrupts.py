"""What tells an agent from outside to end: a signal, or the end of who started it.

Law of this file: the first word is taken in the agent's own time, the second ends it at once, wherever it is.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class KilledAtOnce(BaseException):
    """A second signal came; a BaseException, so that it passes through whatever the agent is doing."""


class Interrupts:
    """Counts SIGTERM and SIGINT and watches the lifeline, as a context manager.

    Parameters
    ----------
    lifeline
        A descriptor whose end of file means that who started this process is gone.
    """

    def __init__(self, lifeline: int | None) -> None:
        self._lifeline = lifeline
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._received: list[int] = []
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._reason: str | None = None

    def __enter__(self) -> Interrupts:
        # Python lets only the main thread have signals; elsewhere the lifeline has to do.
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_before)
        self._wakes.close()
        self._wake.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when :meth:`reason` has news."""
        # Once it has ended the lifeline stays readable, and has no more to tell.
        lifeline = self._lifeline if self._reason is None else None
        return (self._wakes.fileno(),) if lifeline is None else (self._wakes.fileno(), lifeline)

    def reason(self, readable: set[int]) -> str | None:
        """Why the agent is to end, or None; ``readable`` are the descriptors that were found so."""
        if self._wakes.fileno() in readable:
            self._wakes.recv(4_096)
        if self._received and self._reason is None:
            self._reason = f"its worker was told to end ({signal.Signals(self._received[0]).name})"
        if self._lifeline in readable and self._reason is None and not os.read(self._lifeline, 1):
            self._reason = "whoever started its worker is gone"
        return self._reason

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received.append(number)
        if len(self._received) == 2:
            raise KilledAtOnce
