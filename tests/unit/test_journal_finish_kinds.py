"""Ends of searches in old journals: each sentence that could be written has its kind."""

from __future__ import annotations

import pytest

from hpbandster_lite.journal.finish_kinds import finish_kind_of, with_finish_kind
from hpbandster_lite.records import FinishKind, Plain

WITHOUT_LOSS = "; none of its 3 evaluations has a loss: 2 code, 1 invalid. The logs of the attempts say more"
SENTENCES = (
    ("the one bracket is complete", FinishKind.COMPLETE),
    ("all 12 brackets are complete", FinishKind.COMPLETE),
    ("the space is exhausted: all 4 configurations were evaluated", FinishKind.EXHAUSTED),
    ("1 evaluation was started, which is the limit", FinishKind.LIMIT),
    ("60 evaluations were started, which is the limit", FinishKind.LIMIT),
    ("the total budget of 11 is spent", FinishKind.LIMIT),
    ("the wall time of 3600 s is over", FinishKind.LIMIT),
    ("the target loss of 0.5 is reached: 0.1", FinishKind.TARGET),
    (
        "the problem refused the last 1000 configurations as infeasible; mend feasible() or the space",
        FinishKind.INFEASIBLE,
    ),
    ("stopped by its user", FinishKind.STOPPED),
    ("stopped by its user: 60 evaluations were started, which is the limit", FinishKind.STOPPED),
    (
        "stopped, because the first 3 evaluations all failed with the same fault; mend the code, then go on with "
        "--retry-failed:\nTraceback (most recent call last):\n  ...\nValueError: 60 evaluations were started",
        FinishKind.SAME_FAULT,
    ),
)


@pytest.mark.parametrize("suffix", ["", WITHOUT_LOSS], ids=["with a loss", "without any loss"])
@pytest.mark.parametrize(("reason", "kind"), SENTENCES)
def test_each_sentence_of_the_first_schema_has_its_kind(reason: str, kind: FinishKind, suffix: str) -> None:
    assert finish_kind_of(reason + suffix) is kind


def test_an_entry_that_has_its_kind_keeps_it_whatever_its_sentence() -> None:
    entry = {"type": "Finished", "kind": "limit", "reason": "stopped by its user"}
    assert with_finish_kind(entry) == entry


@pytest.mark.parametrize("message", [None, 7, [], {}, {"type": "Paused", "reason": ""}])
def test_other_messages_stay_as_they_are(message: Plain) -> None:
    assert with_finish_kind(message) == message
