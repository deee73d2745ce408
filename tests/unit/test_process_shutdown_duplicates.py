"""Slurm sends SIGTERM twice to a job that it preempts: this is one request, while two signals of a user are two."""

from __future__ import annotations

import signal

import pytest

from hpbandster_lite.process.shutdown import DUPLICATE_WITHIN_S, DuplicateTerminations

IN_A_JOB = {"SLURM_JOB_ID": "7"}
TERM, INT = signal.SIGTERM, signal.SIGINT


def duplicates(environment: dict[str, str], *signals: tuple[signal.Signals, float]) -> list[bool]:
    """Whether each of these signals, at these times, repeats the previous one."""
    filtered = DuplicateTerminations(environment)
    return [filtered.is_duplicate(number, now=now) for number, now in signals]


def test_a_sigterm_right_behind_another_is_a_duplicate() -> None:
    assert duplicates(IN_A_JOB, (TERM, 100.0), (TERM, 100.03), (TERM, 100.9)) == [False, True, True]


def test_a_sigterm_that_comes_later_is_a_request_of_its_own() -> None:
    later = 100.0 + DUPLICATE_WITHIN_S
    assert duplicates(IN_A_JOB, (TERM, 100.0), (TERM, later), (TERM, later + 0.5)) == [False, False, True]


def test_outside_of_a_job_nothing_is_a_duplicate() -> None:
    assert duplicates({}, (TERM, 100.0), (TERM, 100.01)) == [False, False]


@pytest.mark.parametrize("other", [INT, signal.SIGUSR2])
def test_no_other_signal_is_a_duplicate(other: signal.Signals) -> None:
    assert duplicates(IN_A_JOB, (other, 100.0), (other, 100.01), (TERM, 100.02)) == [False, False, False]
