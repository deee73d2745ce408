"""Ends of searches in journals of schema 1: each sentence that version 0.1.0 wrote has its kind."""

from __future__ import annotations

from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.journal.schema_1 import entry_of_schema_2, finish_kind_of
from hpbandster_lite.records import FinishKind

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
    assert finish_kind_of(reason + suffix) == kind.value


@pytest.mark.parametrize(
    "text", ['{"type":"Finished","reason":"stopped by its user"}', '{"type": "Finished", "reason": "x"}']
)
def test_an_older_end_gains_its_kind_however_its_text_is_spaced(text: str) -> None:
    old = wire.decode(text)
    assert wire.decode(entry_of_schema_2(text)) == {**old, "kind": finish_kind_of(old["reason"])}


def test_a_search_that_has_not_ended_has_no_kind() -> None:
    assert finish_kind_of(None) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"Finished","kind":"limit","reason":"stopped by its user"}',
        '{"type":"Paused","reason":"Finished"}',
        '{"type":"Finished"',
        '"Finished"',
        "[]",
        "",
        None,
        7,
        b"Finished",
    ],
)
def test_every_other_text_stays_as_it_is(text: Any) -> None:
    assert entry_of_schema_2(text) is text
