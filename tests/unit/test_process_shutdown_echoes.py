"""Slurm says SIGTERM twice to what it pre-empts: one order, but two of a user's are two."""

from __future__ import annotations

import signal

import pytest

from hpbandster_lite.process.shutdown import ECHO_S, Echoes

IN_A_JOB = {"SLURM_JOB_ID": "7"}
TERM, INT = signal.SIGTERM, signal.SIGINT


def echoes(environment: dict[str, str], *signals: tuple[signal.Signals, float]) -> list[bool]:
    """Which of these signals, at these times, only repeat what was said."""
    heard = Echoes(environment)
    return [heard.is_echo(number, now=now) for number, now in signals]


def test_a_sigterm_right_behind_another_is_its_echo() -> None:
    assert echoes(IN_A_JOB, (TERM, 100.0), (TERM, 100.03), (TERM, 100.9)) == [False, True, True]


def test_a_sigterm_that_comes_later_is_an_order_of_its_own() -> None:
    assert echoes(IN_A_JOB, (TERM, 100.0), (TERM, 100.0 + ECHO_S), (TERM, 100.5 + ECHO_S)) == [False, False, True]


def test_outside_of_a_job_nothing_is_an_echo() -> None:
    assert echoes({}, (TERM, 100.0), (TERM, 100.01)) == [False, False]


@pytest.mark.parametrize("other", [INT, signal.SIGUSR2])
def test_no_other_signal_is_an_echo(other: signal.Signals) -> None:
    assert echoes(IN_A_JOB, (other, 100.0), (other, 100.01), (TERM, 100.02)) == [False, False, False]
