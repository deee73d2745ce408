"""The failure of a dead trainer: a pure function of its exit status and of the machine's reports about memory."""

from __future__ import annotations

import signal

import pytest

from hpbandster_lite.records import FailureKind
from hpbandster_lite.trainer.exit_status import failure_of_death

EVIDENCE = "it used 980 MiB of its limit of 1,000 MiB"


@pytest.mark.parametrize(
    ("returncode", "memory", "kind", "reason"),
    [
        (0, None, FailureKind.CODE, "ended its process with exit status 0 (os._exit, or a library's exit)"),
        (7, EVIDENCE, FailureKind.CODE, "ended its process with exit status 7"),
        *((-number, None, FailureKind.CODE, f"the objective crashed its process by {number.name}")
          for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGPIPE)),
        (-signal.SIGSEGV, EVIDENCE, FailureKind.CODE, "crashed its process by SIGSEGV"),
        *((-number, None, FailureKind.INFRASTRUCTURE, f"the trainer was ended from outside by {number.name}")
          for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPWR)),
        (-signal.SIGTERM, EVIDENCE, FailureKind.INFRASTRUCTURE, "ended from outside by SIGTERM"),
        (-signal.SIGKILL, EVIDENCE, FailureKind.MEMORY, f"the trainer was ended by SIGKILL: {EVIDENCE}"),
        (-40, None, FailureKind.CODE, "crashed its process by signal 40"),
    ],
)
def test_the_way_a_trainer_died_gives_the_class_of_the_failure(
    returncode: int, memory: str | None, kind: FailureKind, reason: str
) -> None:
    failure = failure_of_death(returncode, memory, ("last line",))
    assert (failure.kind, failure.log_tail) == (kind, ("last line",))
    assert reason in failure.reason
