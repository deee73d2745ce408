"""Who sent a signal to this process: Python's handlers do not receive the sender, a thread that waits for signals does.

Law of this file: a signal counts as the objective's own only if its sender is proven to descend from this process. The
agent starts nothing but trainers, so such a sender is a trainer or a process of its objective. A sender that has ended
before it was looked up proves nothing. While the thread waits, the main thread blocks the signals, and the handler of
:data:`NUDGE` takes what the thread found. From the first signal on that is not the objective's own, the main thread
receives them again, so that a second one interrupts at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from hpbandster_lite.process.identity import Descent, descent

NUDGE = signal.SIGURG
"""Interrupts a system call of the main thread; by default it has no effect."""


class SignalSenders:
    """Waits for signals in a thread, from :meth:`begin` to :meth:`end`; call both from the main thread.

    Parameters
    ----------
    numbers
        The signals.
    take
        Called in the main thread with the number of each signal and its sender.
    """

    def __init__(self, numbers: Iterable[int], take: Callable[[int, Descent], object]) -> None:
        self._numbers = frozenset(numbers)
        self._take = take
        self._found: deque[tuple[int, Descent]] = deque()
        self._main = threading.get_ident()
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._mask: set[int] = set()
        self._nudged: Any = None

    def begin(self) -> None:
        """Block the signals in this thread, and wait for them in another one."""
        self._mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)}
        self._nudged = signal.signal(NUDGE, self._receive)
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the handlers of this thread receive the signals again."""
        thread, self._thread = self._thread, None
        if thread is None or thread.ident is None:
            return
        self._is_over = True
        # Only the other thread receives it: the signal is blocked, and pending for that thread alone.
        signal.pthread_kill(thread.ident, min(self._numbers))
        thread.join()
        signal.signal(NUDGE, self._nudged)
        try:
            self._hand_on()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _wait(self) -> None:
        while True:
            info = signal.sigwaitinfo(self._numbers)
            if self._is_over and info.si_pid == os.getpid():
                return
            self._found.append((info.si_signo, descent(info.si_pid, os.getpid())))
            signal.pthread_kill(self._main, NUDGE)

    def _receive(self, *_: object) -> None:
        if all(sender.is_descendant for _, sender in self._found):
            self._hand_on()
        else:
            self.end()

    def _hand_on(self) -> None:
        while self._found:
            self._take(*self._found.popleft())
