"""When two failures are the same fault, and how a failure is shown.

Law of this file: text in, text out. A fault is the traceback (the reason where there is none) without addresses and
numbers, which differ from run to run. Places in the code (file, line, function) are kept.
"""

from __future__ import annotations

import re

from hpbandster_lite.records import Failure

SHOWN_LINES = 40
"""Lines shown of a traceback or log: its end, where the error is."""

_PLACE = re.compile(r'\s*File ".*", line \d+, in ')
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def fault_of(failure: Failure) -> str:
    """A text that two failures share exactly if they have the same fault.

    Parameters
    ----------
    failure
        Of kind ``code`` or ``invalid``; others are not the code's fault.
    """
    lines = (failure.traceback or failure.reason).splitlines()
    return "\n".join(line if _PLACE.match(line) else _without_noise(line) for line in lines)


def _without_noise(line: str) -> str:
    return _NUMBER.sub("#", _ADDRESS.sub("0x", line))


def shown(failure: Failure) -> str:
    """The failure as users see it: the end of its traceback; without one its reason and the end of its log."""
    if failure.traceback is not None:
        return "\n".join(failure.traceback.rstrip().splitlines()[-SHOWN_LINES:])
    return "\n".join((failure.reason, *failure.log_tail[-SHOWN_LINES:]))


def first_line(reason: str) -> str:
    """The reason of a search's end without the failure that may follow it."""
    return reason.partition("\n")[0].rstrip(":")
