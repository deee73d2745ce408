"""What tells an agent from outside to end: a signal, a word of who started it, or the end of that.

Law of this file: the first word is taken in the agent's own time. Only a second SIGTERM or SIGINT ends it at once,
wherever it is: a batch system tells all processes of a job, whoever started this one passes that on, and one order that
comes by two ways is one order.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any

from hpbandster_lite.process.shutdown import (
    ALLOCATION_ENDS,
    INTERRUPTED,
    REQUEUE,
    DuplicateTerminations,
    unblock_allocation_signal,
)

SIGNALS = (signal.SIGTERM, signal.SIGINT, ALLOCATION_ENDS)
END, GO_ON_LATER = b"e", b"g"
"""Words on the lifeline: end; end, because the allocation does."""


class KilledAtOnce(BaseException):
    """A second signal came; a BaseException, so that it passes through whatever the agent is doing."""


class Interrupts:
    """Counts signals and watches the lifeline, as a context manager.

    Parameters
    ----------
    lifeline
        A descriptor on which who started this process says :data:`END` or :data:`GO_ON_LATER`, and whose end of file
        means that it is gone.

    Attributes
    ----------
    exit_code : int
        What an agent ends with that was told to end before its search was over: 130, or 75 where its allocation ends
        and nobody has said more.
    """

    def __init__(self, lifeline: int | None) -> None:
        self._lifeline = lifeline
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._received: list[int] = []
        self._duplicates = DuplicateTerminations(os.environ)
        self._allocation_ends = False
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._reason: str | None = None
        self.exit_code = INTERRUPTED

    def __enter__(self) -> Interrupts:
        # Python lets only the main thread have signals; elsewhere the lifeline has to do.
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
            unblock_allocation_signal()
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
        return (self._wakes.fileno(),) if self._lifeline is None else (self._wakes.fileno(), self._lifeline)

    def reason(self, readable: set[int]) -> str | None:
        """Why the agent is to end, or None; ``readable`` are the descriptors that were found so."""
        if self._wakes.fileno() in readable:
            self._wakes.recv(4_096)
        if self._allocation_ends:
            self._is_told("the allocation of its worker ends (SIGUSR2)", REQUEUE)
        if self._received:
            self._is_told(f"its worker was told to end ({signal.Signals(self._received[0]).name})", INTERRUPTED)
        if self._lifeline is not None and self._lifeline in readable:
            self._hear(self._lifeline)
        return self._reason

    def _hear(self, lifeline: int) -> None:
        match os.read(lifeline, 1):
            case b"":
                self._is_told("whoever started its worker is gone", INTERRUPTED)
                # It stays readable, and has no more to tell.
                self._lifeline = None
            case word if word == GO_ON_LATER:
                self._is_told("the allocation of its worker ends", REQUEUE)
            case _:
                self._is_told("its worker was told to end by who started it", INTERRUPTED)

    def _is_told(self, reason: str, exit_code: int) -> None:
        """The first reason counts; who is to end, not only in this allocation, is not started again."""
        if self._reason is None:
            self._reason, self.exit_code = reason, exit_code
        elif exit_code == INTERRUPTED:
            self.exit_code = INTERRUPTED

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == ALLOCATION_ENDS:
            self._allocation_ends = True
            return
        if self._duplicates.is_duplicate(number, now=time.monotonic()):
            return
        self._received.append(number)
        if len(self._received) == 2:
            raise KilledAtOnce
