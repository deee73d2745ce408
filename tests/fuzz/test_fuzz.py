"""Short runs with fixed seeds; the long run is ``python -m tests.fuzz``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_journal, fuzz_transport
from tests.recorded.runs import recorded_run

pytestmark = pytest.mark.timeout(60)


def test_a_server_bears_what_strangers_send() -> None:
    assert fuzz_transport.run(2_000, 1, None) >= 2_000


def test_a_server_under_tls_bears_what_strangers_send(tmp_path: Path) -> None:
    assert fuzz_transport.run(1_000, 2, fuzz_transport.certificates_in(tmp_path / "tls")) >= 1_000


def test_a_client_bears_what_a_server_answers() -> None:
    assert fuzz_transport.run_client(500, 3) == 500


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid journal."""
    return fuzz_journal.make_journal(tmp_path_factory.mktemp("journal") / "source.sqlite")


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_a_reader_bears_what_was_done_to_a_journal(seed: int, journal: Path) -> None:
    fuzz_journal.one(journal, str(seed))


@pytest.fixture(scope="module")
def older_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid journal of schema 1."""
    return recorded_run(1, "stopped", tmp_path_factory.mktemp("older")).journal


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_readers_and_the_migration_bear_what_was_done_to_an_older_journal(seed: int, older_journal: Path) -> None:
    fuzz_journal.one(older_journal, str(seed))


def test_tables_that_name_another_entry_as_an_outcome_are_damaged(journal: Path) -> None:
    """Found by the long run: the entry of a start has no evaluation."""
    fuzz_journal.one(journal, "0 5027")


def test_a_journal_that_was_left_alone_is_read_and_one_without_a_middle_is_not(journal: Path) -> None:
    assert fuzz_journal.check(journal, "the journal itself")
    damaged = journal.with_name("damaged.sqlite")
    data = journal.read_bytes()
    damaged.write_bytes(data[:4_096] + bytes(len(data) - 4_096))
    assert not fuzz_journal.check(damaged, "one without a middle")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_hundred_thousand_inputs_do_no_harm(tmp_path: Path) -> None:
    count = fuzz_transport.run(65_000, 10, None)
    count += fuzz_transport.run(20_000, 11, fuzz_transport.certificates_in(tmp_path / "tls"))
    count += fuzz_transport.run_client(15_000, 12)
    count += fuzz_journal.run(5_000, 13, tmp_path)[0]
    assert count >= 100_000
