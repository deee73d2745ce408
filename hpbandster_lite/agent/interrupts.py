"""Requests from outside that end an agent: a signal, or a byte or the end of file on its lifeline.

Law of this file: the first request ends the agent in order. Only a second SIGTERM or SIGINT ends it at once: a batch
system signals all processes of a job, and the parent of this process passes the signal on over the lifeline, so the
same request may arrive in both ways.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any

from hpbandster_lite.agent.signal_senders import SignalSenders
from hpbandster_lite.process.forks import handle_here
from hpbandster_lite.process.identity import Descent
from hpbandster_lite.process.shutdown import (
    ALLOCATION_ENDS,
    INTERRUPTED,
    REQUEUE,
    DuplicateTerminations,
    unblock_allocation_signal,
)

SIGNALS = (signal.SIGTERM, signal.SIGINT, ALLOCATION_ENDS)
END, END_OF_ALLOCATION = b"e", b"g"
"""Bytes on the lifeline: end; end, because the allocation ends."""


class KilledAtOnce(BaseException):
    """A second signal arrived; a BaseException, so that no handler of errors catches it."""


class Interrupts:
    """Counts signals and watches the lifeline, as a context manager.

    Parameters
    ----------
    lifeline
        A descriptor on which the parent process writes :data:`END` or :data:`END_OF_ALLOCATION`; its end of file means
        that the parent is gone.
    is_alone
        Whether this process does nothing else: then a signal of one of its descendants is no request, see
        :mod:`.signal_senders`. Default: False.

    Attributes
    ----------
    is_unexplained : bool
        Whether the first request is a signal whose sender had ended before it was looked up.
    exit_code : int
        Exit code of an agent that ends on request before its search is over: 75 if the end of its allocation is the
        only request, 130 otherwise.
    """

    def __init__(self, lifeline: int | None, *, is_alone: bool = False) -> None:
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
        self._own: list[str] = []
        self._senders = SignalSenders(SIGNALS, self._receive_from) if is_alone else None
        self.is_unexplained = False
        self.exit_code = INTERRUPTED

    def __enter__(self) -> Interrupts:
        # Python delivers signals to the main thread alone; in another thread there is the lifeline.
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            self._before = handle_here(dict.fromkeys(SIGNALS, self._receive))
            unblock_allocation_signal()
            if self._senders is not None:
                self._senders.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self._senders is not None:
            self._senders.end()
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_before)
        self._wakes.close()
        self._wake.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is a new request."""
        return (self._wakes.fileno(),) if self._lifeline is None else (self._wakes.fileno(), self._lifeline)

    def reason(self, readable: set[int]) -> str | None:
        """Why the agent must end, or None; ``readable`` has the descriptors that are readable now."""
        if self._wakes.fileno() in readable:
            self._wakes.recv(4_096)
        if self._allocation_ends:
            self._request("the allocation of its worker ends (SIGUSR2)", REQUEUE)
        if self._received:
            sender = " from a process that has ended" if self.is_unexplained else ""
            self._request(f"its worker received {signal.Signals(self._received[0]).name}{sender}", INTERRUPTED)
        if self._lifeline is not None and self._lifeline in readable:
            self._read(self._lifeline)
        return self._reason

    def own_signals(self) -> list[str]:
        """A sentence about each signal that a descendant of this process sent since the last call."""
        own = self._own.copy()
        del self._own[: len(own)]
        return own

    def _read(self, lifeline: int) -> None:
        match os.read(lifeline, 1):
            case b"":
                self._request("the process that started its worker is gone", INTERRUPTED)
                # An end of file stays readable.
                self._lifeline = None
            case request if request == END_OF_ALLOCATION:
                self._request("the allocation of its worker ends", REQUEUE)
            case _:
                self._request("the process that started its worker ends it", INTERRUPTED)

    def _request(self, reason: str, exit_code: int) -> None:
        """Keep the first reason; a plain termination overrides a requeue."""
        if self._reason is None:
            self._reason, self.exit_code = reason, exit_code
        elif exit_code == INTERRUPTED:
            self.exit_code = INTERRUPTED

    def _receive_from(self, number: int, sender: Descent) -> None:
        if sender.is_descendant:
            self._own.append(f"{sender.words} of its objective sent {signal.Signals(number).name} to its own worker")
            return
        # Only a batch system or its user announces the end of an allocation.
        is_unexplained = sender.is_descendant is None and number != ALLOCATION_ENDS
        self.is_unexplained |= is_unexplained and self._reason is None and not self._received
        self._receive(number, None)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == ALLOCATION_ENDS:
            self._allocation_ends = True
            return
        if self._duplicates.is_duplicate(number, now=time.monotonic()):
            return
        self._received.append(number)
        if len(self._received) == 2:
            raise KilledAtOnce
