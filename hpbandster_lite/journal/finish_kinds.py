"""The kind of a search's end in journals that hold only the sentence for people.

Law of this file: nothing else reads a sentence. The first schema's :class:`Finished` entries hold a ``reason`` alone;
each sentence that its code could write is one of these.
"""

from __future__ import annotations

from hpbandster_lite.records import FinishKind, Plain

_KIND_OF_START = (
    ("stopped by its user", FinishKind.STOPPED),
    ("stopped, because the first ", FinishKind.SAME_FAULT),
    ("the space is exhausted: ", FinishKind.EXHAUSTED),
    ("the target loss of ", FinishKind.TARGET),
    ("the wall time of ", FinishKind.LIMIT),
    ("the total budget of ", FinishKind.LIMIT),
    ("the problem refused the last ", FinishKind.INFEASIBLE),
    ("the one bracket is complete", FinishKind.COMPLETE),
)
_STARTED = ("evaluation was started, which is the limit", "evaluations were started, which is the limit")


def finish_kind_of(reason: str) -> FinishKind:
    """The kind of an end of which only the sentence is known; one that no code wrote counts as complete."""
    for start, kind in _KIND_OF_START:
        if reason.startswith(start):
            return kind
    # "all 3 brackets are complete" needs no line.
    return FinishKind.LIMIT if any(words in reason for words in _STARTED) else FinishKind.COMPLETE


def with_finish_kind(message: Plain) -> Plain:
    """The message of an entry; an older :class:`Finished` gains its kind."""
    if type(message) is dict and message.get("type") == "Finished" and "kind" not in message:
        return {**message, "kind": finish_kind_of(str(message.get("reason"))).value}
    return message
