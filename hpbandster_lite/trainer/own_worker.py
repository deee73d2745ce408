"""An objective that signals the worker of its own trainer.

Law of this file: Python's functions that send a signal refuse the worker's process and its group. The worker
could take such a signal for an order to end, so the evaluation would lose no attempt and run again without end. The
worker recognises signals of programs that the objective starts (:mod:`hpbandster_lite.agent.signal_senders`).
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

INSTEAD_OF_SIGNALS = (
    "to hand an evaluation back, raise hpbandster_lite.Interrupted, and to end the search, use: hpbandster-lite stop"
)


def refuse_signals_to(worker: int) -> None:
    """From now on, ``os.kill`` and ``os.killpg`` of this process refuse the worker's process and its group."""
    own_group = os.getpgrp()

    def is_worker(number: int) -> bool:
        # -1: every process of the user.
        return number in (worker, -1) or (number < -1 and is_group(-number))

    def is_group(number: int) -> bool:
        return number != own_group and number == _group_of(worker)

    os.kill = _guarded(os.kill, is_worker, worker)
    os.killpg = _guarded(os.killpg, is_group, worker)


def _guarded(send: Callable[[int, int], None], is_refused: Callable[[int], bool], worker: int) -> Callable[..., None]:
    @functools.wraps(send)
    def guarded(number: int, its_signal: int, /) -> None:
        # The signal 0 only asks whether a process exists.
        if its_signal != 0 and is_refused(number):
            raise PermissionError(
                f"the objective sent {_name_of(its_signal)} to its own worker (process {worker}), which would end it; "
                f"{INSTEAD_OF_SIGNALS}"
            )
        send(number, its_signal)

    return guarded


def _group_of(process: int) -> int | None:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


def _name_of(number: Any) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
