"""A search that meets nothing but one fault stops, unless the fault may belong to its space."""

from __future__ import annotations

import pytest

from hpbandster_lite.engine.decision_types import Done, Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.verify import Verification
from hpbandster_lite.records import Entry, FailureKind, Finished, FinishKind, Limits, Recorded, Started
from tests.engine_room import (
    engine_for,
    fail,
    failed,
    granted,
    is_over,
    loss,
    replayed,
    settings_for,
    snapshot,
    space_of,
    started,
    traceback,
    verified,
)

CODE, INVALID = FailureKind.CODE, FailureKind.INVALID
MODULE = "the module 'pandass'"


def reason_of(engine: Engine) -> str:
    assert engine.finished is not None
    assert engine.finished.kind is FinishKind.SAME_FAULT
    return engine.finished.reason


# -------------------------------------------------------------------------------------------------- three that miss it


def test_three_evaluations_that_miss_the_same_thing_stop_the_search_which_shows_the_fault() -> None:
    engine = started()
    fail(engine, *[traceback()] * 2, misses=MODULE)
    assert not is_over(engine)
    turn = engine.report("a", failed(granted(engine, "a", 2), CODE, traceback(), MODULE), now=0.0)
    assert [type(entry) for entry in turn.entries] == [Recorded, Finished]
    assert reason_of(engine) == (
        "stopped, because the first 3 evaluations all failed with the same fault: they miss the module 'pandass'; "
        f"correct the code, then continue the search with --retry-failed (retry_failed=True):\n{traceback().rstrip()}"
    )
    assert isinstance(engine.lease("a", 3, now=0.0).answer, Done)


def test_what_three_miss_has_one_name() -> None:
    engine = started()
    for index in range(9):
        fail(engine, traceback(message=f"no fold{index}.csv"), first=index, misses=f"the file 'fold{index}.csv'")
    assert not is_over(engine)


def test_a_fault_that_the_first_evaluation_did_not_meet_may_depend_on_the_configuration() -> None:
    for outcome in (None, FailureKind.MEMORY, FailureKind.TIME_LIMIT, INVALID, CODE):
        engine = started()
        grant = granted(engine, "a", 0)
        engine.report("a", loss(grant, 1.0) if outcome is None else failed(grant, outcome, traceback(7)), now=0.0)
        fail(engine, *[traceback()] * 9, first=1, misses=MODULE)
        assert not is_over(engine)


# ------------------------------------------------------------------------------------------------ ten that fail alike


def test_nine_invalid_architectures_do_not_stop_a_search_and_a_tenth_does() -> None:
    engine = started()
    fail(engine, *[traceback()] * 9)
    assert not is_over(engine)
    fail(engine, traceback(), first=9)
    words = reason_of(engine)
    assert words.startswith("stopped, because 10 configurations failed with the same fault and no evaluation succeeded")
    assert "--retry-failed" in words
    assert "continue the search as it is: it tries others" in words
    assert "--keep-going" in words
    assert words.endswith(traceback().rstrip())


def test_addresses_and_numbers_in_the_message_make_no_other_fault_but_another_line_does() -> None:
    engine = started()
    fail(engine, *(traceback(message=f"<Net at 0x7f{n}{'abc'[n % 3]}> has {n}.5e-3 weights") for n in range(10)))
    assert is_over(engine)
    other = started()
    fail(other, *(traceback(3 + n % 2) for n in range(18)))
    assert not is_over(other)
    fail(other, traceback(3), first=18)
    assert is_over(other)


def test_without_a_traceback_the_reason_is_the_fault() -> None:
    engine = started()
    fail(engine, *[None] * 10)
    assert reason_of(engine).endswith("made up: code")


def test_one_loss_lets_the_search_go_on_for_good_and_no_other_outcome_does() -> None:
    engine = started()
    engine.report("a", loss(granted(engine, "a"), 1.0), now=0.0)
    fail(engine, *[traceback()] * 30, first=1)
    assert not is_over(engine)
    for kind in (FailureKind.MEMORY, FailureKind.TIME_LIMIT, INVALID):
        other = started()
        fail(other, None, kind=kind)
        fail(other, *[traceback()] * 9, first=1)
        assert not is_over(other)
        fail(other, traceback(), first=10)
        assert is_over(other)


def test_a_configuration_that_fails_again_counts_once() -> None:
    engine = started()
    fail(engine, *[traceback()] * 6)
    assert len(engine.start(2, Limits(), now=0.0, retry_failed=True).answer.put_back) == 6
    fail(engine, *[traceback()] * 9, first=6)
    assert not is_over(engine)
    fail(engine, traceback(), first=15)
    assert is_over(engine)
    assert len(engine.state.proposals) == 10


def test_what_was_not_run_to_its_end_neither_clears_nor_accuses_the_code() -> None:
    engine = started()
    fail(engine, None, None, None, None, kind=FailureKind.INFEASIBLE)
    engine.cancel(granted(engine, "b").evaluation)
    assert not is_over(engine)
    fail(engine, *[traceback()] * 3, first=4, misses=MODULE)
    assert is_over(engine)


# --------------------------------------------------------------------------------------------- twenty invalid results


def test_twenty_invalid_results_alike_stop_the_search() -> None:
    engine = started()
    fail(engine, *[None] * 19, kind=INVALID)
    assert not is_over(engine)
    fail(engine, None, kind=INVALID, first=19)
    words = reason_of(engine)
    assert words.startswith("stopped, because 20 evaluations had the same invalid result and none succeeded; ")
    assert "continue the search as it is" in words
    assert "command" not in words
    assert words.endswith("made up: invalid")


def test_invalid_results_of_two_kinds_are_counted_apart() -> None:
    engine = started()
    fail(engine, *[None, traceback()] * 19, kind=INVALID)
    assert not is_over(engine)
    fail(engine, None, kind=INVALID, first=38)
    assert is_over(engine)


# ------------------------------------------------------------------------------------------------- what starts decide


def test_the_next_start_goes_on_and_counts_from_the_beginning() -> None:
    engine = started()
    fail(engine, *[traceback()] * 3, misses=MODULE)
    engine.start(2, Limits(), now=0.0)
    assert not is_over(engine)
    fail(engine, *[traceback()] * 2, first=3, misses=MODULE)
    assert not is_over(engine)
    fail(engine, traceback(), first=5, misses=MODULE)
    assert is_over(engine)


def test_a_search_that_keeps_going_does_not_stop_until_a_start_says_otherwise() -> None:
    engine = engine_for(settings_for(space_of()), space_of())
    (start,) = engine.start(1, Limits(), now=0.0, keep_going=True).entries
    assert isinstance(start, Started)
    assert start.keep_going
    fail(engine, *[traceback()] * 15, misses=MODULE)
    fail(engine, *[None] * 25, kind=INVALID, first=15)
    assert not is_over(engine)
    engine.start(2, Limits(), now=0.0)
    fail(engine, *[traceback()] * 9, first=40)
    assert not is_over(engine)
    fail(engine, traceback(), first=49)
    assert is_over(engine)


@pytest.mark.parametrize(
    ("printed", "more"),
    [((), ""), (("warming up",), ". The logs of the attempts say more")],
    ids=["nothing was printed", "there are logs"],
)
def test_a_search_without_a_single_loss_says_so_when_it_ends(printed: tuple[str, ...], more: str) -> None:
    engine = started(Limits(evaluations=3))
    fail(engine, traceback(1), traceback(2), kind=CODE, printed=printed)
    fail(engine, None, kind=INVALID, first=2)
    answer = engine.lease("a", 3, now=0.0).answer
    assert isinstance(answer, Done)
    assert answer.finished.kind is FinishKind.LIMIT
    assert answer.finished.reason == (
        f"3 evaluations were started, which is the limit; none of its 3 evaluations has a loss: 2 code, 1 invalid{more}"
    )
    assert engine.finished == answer.finished


def test_a_short_search_in_which_all_fail_alike_shows_the_fault_at_its_end() -> None:
    engine = started(Limits(evaluations=4))
    fail(engine, *[traceback()] * 4)
    answer = engine.lease("a", 4, now=0.0).answer
    assert isinstance(answer, Done)
    assert answer.finished.reason == (
        "4 evaluations were started, which is the limit; none of its 4 evaluations has a loss: 4 code, with one "
        f"fault:\n{traceback().rstrip()}"
    )


# ------------------------------------------------------------------------------------------------- journals and rules


def judged(entries: list[Entry]) -> Verification:
    return verified(settings_for(space_of()), entries)


def journal_of(count: int, *, misses: str | None = None, keep_going: bool = False, by_rule: int = 2) -> list[Entry]:
    """The entries of a search whose evaluations fail with one fault; ``by_rule`` 1 is that of an older master."""
    engine = engine_for(settings_for(space_of()), space_of())
    entries: list[Entry] = [*engine.start(1, Limits(), now=0.0, keep_going=keep_going).entries]
    if by_rule == 1:
        # As read from a journal that does not have the field.
        entries = [Started(epoch=1, limits=Limits())]
        engine = replayed(engine.settings, entries)
    for request in range(count):
        turn = engine.lease("a", request, now=0.0)
        assert isinstance(turn.answer, Granted)
        entries += turn.entries
        entries += engine.report("a", failed(turn.answer.grant, CODE, traceback(), misses), now=0.0).entries
    assert snapshot(replayed(engine.settings, entries)) == snapshot(engine)
    return entries


@pytest.mark.parametrize("by_rule", [1, 2])
def test_a_journal_is_judged_by_the_rule_under_which_it_was_written(by_rule: int) -> None:
    for misses, count in ((None, 3 if by_rule == 1 else 10), (MODULE, 3)):
        entries = journal_of(count, misses=misses, by_rule=by_rule)
        assert isinstance(entries[-1], Finished)
        assert judged(entries).holds
        assert "the journal ends although " in judged(entries[:-1]).differences[0].description


def test_a_journal_that_was_stopped_without_need_is_not_verified() -> None:
    entries = journal_of(4)
    assert judged(entries).holds
    stopped = [*entries, Finished(kind=FinishKind.SAME_FAULT, reason="stopped, because")]
    assert "stopped for one fault although" in judged(stopped).differences[0].description


def test_a_journal_of_a_search_that_kept_going_is_verified() -> None:
    entries = journal_of(12, misses=MODULE, keep_going=True)
    assert not any(isinstance(entry, Finished) for entry in entries)
    assert judged(entries).holds


def test_a_start_by_the_new_rule_counts_what_failed_under_the_old_one() -> None:
    entries = journal_of(3, by_rule=1)
    engine = replayed(settings_for(space_of()), entries)
    entries += engine.start(2, Limits(), now=0.0).entries
    assert not is_over(engine)
    fail(engine, *[traceback()] * 6, first=3)
    assert not is_over(engine)
    fail(engine, traceback(), first=9)
    assert is_over(engine)
