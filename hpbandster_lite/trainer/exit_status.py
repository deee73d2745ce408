"""The failure of an evaluation whose trainer died.

Law of this file: a pure function of the exit status and the machine's evidence about memory.
"""

from __future__ import annotations

import signal

from hpbandster_lite.records import Failure, FailureKind

FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPWR})
"""Signals from outside: an operator, a batch system, a kernel out of memory. A process causes other signals itself."""


def failure_of_death(returncode: int, memory: str | None = None, log_tail: tuple[str, ...] = ()) -> Failure:
    """The failure of an evaluation whose trainer died.

    Parameters
    ----------
    returncode
        The exit status as in ``subprocess``: negative for a signal.
    memory
        The evidence that memory is the cause, as text; used only for a death by SIGKILL. Default: None.
    log_tail
        The last lines of the evaluation's log. Default: empty.
    """
    if returncode >= 0:
        reason = f"the objective ended its process with exit status {returncode} (os._exit, or a library's exit)"
        return Failure(kind=FailureKind.CODE, reason=reason, log_tail=log_tail)
    name = _name(-returncode)
    if -returncode == signal.SIGKILL and memory is not None:
        return Failure(kind=FailureKind.MEMORY, reason=f"the trainer was ended by {name}: {memory}", log_tail=log_tail)
    if -returncode in FROM_OUTSIDE:
        reason = f"the trainer was ended from outside by {name}"
        return Failure(kind=FailureKind.INFRASTRUCTURE, reason=reason, log_tail=log_tail)
    return Failure(kind=FailureKind.CODE, reason=f"the objective crashed its process by {name}", log_tail=log_tail)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
