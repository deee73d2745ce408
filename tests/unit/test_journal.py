"""A journal keeps all acknowledged entries, complete and in order, however its writer ends."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpbandster_lite import wire
from hpbandster_lite.errors import InvariantBroken, JournalError, NotPlain
from hpbandster_lite.journal import SCHEMA, Fenced, Journal, JournalReader, holds_anything, settings_difference
from hpbandster_lite.journal import reader as reader_module
from hpbandster_lite.records import (
    BracketOpened,
    ConfigId,
    CurvePoint,
    Entry,
    EvaluationId,
    Expired,
    Failure,
    FailureKind,
    Finished,
    FinishKind,
    LateReport,
    Leased,
    Limits,
    Origin,
    Outcome,
    Paused,
    Plain,
    ProblemDescription,
    Proposal,
    PutBack,
    Recorded,
    Released,
    Resumed,
    RungFilled,
    RungShrunk,
    Sampled,
    SearchSettings,
    SetAside,
    Started,
)
from tests.read_only import read_only


def space(upper: float) -> dict[str, Plain]:
    """The part of a space in ConfigSpace's JSON that a comparison reads."""
    number = {"name": "x", "type": "uniform_float", "upper": upper}
    return {"name": None, "hyperparameters": [number], "conditions": [], "forbiddens": []}


SETTINGS = SearchSettings(
    run_id="digits-1",
    problem=ProblemDescription(reference="digits", name="digits", space_json=space(1.0), space_tables={}),
    budgets=(1.0, 3.0, 9.0),
    eta=3.0,
    unit="epochs",
    algorithm="bohb",
    bracket_rule="floor",
    seed=1,
    seed_was_given=True,
)
STARTED = Started(epoch=1, limits=Limits(brackets=4))


def config(number: int, bracket: int = 0, rung: int = 0) -> ConfigId:
    return ConfigId(bracket, rung, number)


def sampled(config_id: ConfigId, **values: Plain) -> Sampled:
    proposal = Proposal(values=values, vector=(0.5, None), origin=Origin.MODEL, model_budget=3.0)
    return Sampled(config_id=config_id, proposal=proposal, basis=0)


def leased(config_id: ConfigId, rung: int = 0, attempt: int = 1, agent: str = "agent") -> Leased:
    return Leased(evaluation=EvaluationId(config_id, rung), attempt=attempt, agent=agent, request=1, worker="worker 7")


def recorded(config_id: ConfigId, loss: float | None = 0.5, rung: int = 0, attempt: int = 1, **more: Plain) -> Recorded:
    return Recorded(
        evaluation=EvaluationId(config_id, rung), attempt=attempt, agent="agent", outcome=Outcome(loss=loss, **more)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path, create=SETTINGS) as opened:
        opened.begin_epoch()
        yield opened


def stored(path: Path) -> list[Entry]:
    return [entry for _, _, entry in JournalReader(path).entries()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ----------------------------------------------------------------------------------------------------------- entries

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
infos = st.dictionaries(st.text(max_size=5), plain_values, max_size=3)
words = st.text(alphabet=st.characters(), max_size=10)
evaluation_ids = st.builds(
    EvaluationId, st.builds(ConfigId, st.sampled_from([0, 3]), st.just(0), st.integers(0, 9)), st.integers(0, 2)
)
losses = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30)
curves = st.lists(st.builds(CurvePoint, losses, losses, infos), max_size=2).map(tuple)
outcomes = st.builds(
    Outcome, loss=losses, info=infos, curve=curves, duration_s=st.none() | st.floats(0, 1e9)
) | st.builds(
    Outcome,
    failure=st.builds(
        Failure, kind=st.sampled_from(FailureKind), reason=words, traceback=st.none() | words, log_tail=st.tuples(words)
    ),
)
ended = {"evaluation": evaluation_ids, "attempt": st.integers(1, 3), "agent": words}
entries_of_all_kinds = st.one_of(
    st.builds(
        Started,
        epoch=st.integers(1, 9),
        limits=st.builds(Limits, brackets=st.none() | st.integers(1, 9)),
        fingerprint=infos,
    ),
    st.builds(BracketOpened, bracket=st.integers(0, 9)),
    st.builds(Leased, **ended, request=st.integers(0, 2**64)),
    st.builds(Recorded, **ended, outcome=outcomes),
    st.builds(SetAside, **ended, outcome=outcomes, resumed_from=st.integers(1, 3)),
    st.builds(LateReport, **ended, outcome=outcomes),
    st.builds(Released, **ended, reason=words, directory=st.none() | words),
    st.builds(Expired, **ended, reason=words),
    st.builds(RungShrunk, bracket=st.integers(0, 9), rung=st.integers(0, 9), places=st.integers(0, 9)),
    st.builds(Paused, reason=words),
    st.just(Resumed()),
    st.builds(PutBack, evaluation=evaluation_ids),
    st.builds(Finished, kind=st.sampled_from(FinishKind), reason=words),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.lists(entries_of_all_kinds, max_size=4), max_size=5), info=infos)
def test_every_entry_comes_back_as_it_was_committed(
    tmp_path: Path, turns: list[list[Entry]], info: dict[str, Plain]
) -> None:
    path = tmp_path / "journal.sqlite"
    turns = [[sampled(config(0), x=0.1), recorded(config(0), info=info)], *turns]
    path.unlink(missing_ok=True)
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()
        for number, turn in enumerate(turns):
            journal.commit(turn, at=1000.0 + number)
        found = list(journal.entries())

    expected = [(1000.0 + number, entry) for number, turn in enumerate(turns) for entry in turn]
    assert [position for position, _, _ in found] == list(range(1, len(expected) + 1))
    assert repr([(at, wire.to_message(entry)) for _, at, entry in found]) == repr(
        [(at, wire.plain(wire.to_message(entry))) for at, entry in expected]
    )
    assert [type(entry) for _, _, entry in found] == [type(entry) for _, entry in expected]


def test_a_commit_returns_the_position_of_its_last_entry(journal: Journal) -> None:
    assert journal.commit([STARTED, BracketOpened(bracket=0)], at=1.0) == 2
    assert journal.commit([], at=2.0) == 2
    assert journal.commit([Finished(kind=FinishKind.COMPLETE, reason="done")], at=3.0) == 3


def test_a_turn_is_one_transaction_and_it_waits_for_the_disk(journal: Journal) -> None:
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)
    journal.commit([entry for number in range(50) for entry in big_turn(number)], at=1.0)

    assert statements.count("COMMIT") == 1
    assert statements[0] == "BEGIN IMMEDIATE"
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_journal_opened_again_holds_settings_and_entries(journal: Journal, path: Path) -> None:
    journal.commit([STARTED], at=1.0)
    journal.close()

    with Journal.open(path) as again:
        assert again.settings == SETTINGS
        assert list(again.entries()) == [(1, 1.0, STARTED)]
        assert again.begin_epoch() == 2
        assert again.commit([Finished(kind=FinishKind.COMPLETE, reason="done")], at=2.0) == 2


def test_settings_of_an_existing_journal_are_kept(journal: Journal, path: Path) -> None:
    with Journal.open(path, create=replace(SETTINGS, seed=2)) as again:
        assert again.settings.seed == 1


def test_an_entry_that_is_not_plain_leaves_nothing_of_its_turn(journal: Journal, path: Path) -> None:
    with pytest.raises(NotPlain, match=r"^info\['model'\]"):
        journal.commit([sampled(config(0)), recorded(config(0), info={"model": object()})], at=1.0)

    assert stored(path) == []
    assert JournalReader(path).configurations() == []


def test_an_entry_that_contradicts_the_tables_leaves_nothing_of_its_turn(journal: Journal, path: Path) -> None:
    with pytest.raises(InvariantBroken, match=r"UNIQUE constraint failed: configurations"):
        journal.commit([sampled(config(0)), sampled(config(0))], at=1.0)

    assert stored(path) == []
    assert journal.commit([sampled(config(0))], at=1.0) == 1


def test_a_master_without_an_epoch_cannot_commit(path: Path) -> None:
    with Journal.open(path, create=SETTINGS) as journal, pytest.raises(InvariantBroken, match="call begin_epoch"):
        journal.commit([STARTED], at=1.0)


# -------------------------------------------------------------------------------------------------------- one master


def test_each_start_takes_the_next_epoch(path: Path) -> None:
    epochs = []
    for _ in range(3):
        with Journal.open(path, create=SETTINGS) as journal:
            epochs.append(journal.begin_epoch())

    assert epochs == [1, 2, 3]


def test_a_newer_master_fences_the_older_one(journal: Journal, path: Path) -> None:
    journal.commit([STARTED], at=1.0)
    with Journal.open(path) as newer:
        newer.begin_epoch()
        with pytest.raises(Fenced, match=r"newer master \(epoch 2\) has taken over .*this master \(epoch 1\) ends"):
            journal.commit([BracketOpened(bracket=0)], at=2.0)
        newer.commit([BracketOpened(bracket=1)], at=3.0)
        with pytest.raises(Fenced):
            journal.commit([], at=4.0)

    assert stored(path) == [STARTED, BracketOpened(bracket=1)]


def test_a_master_that_only_opened_the_journal_fences_no_other(journal: Journal, path: Path) -> None:
    with Journal.open(path) as other:
        assert other.epoch is None
        journal.commit([STARTED], at=1.0)

    assert stored(path) == [STARTED]


def test_a_commit_that_finds_the_file_locked_can_be_made_again(journal: Journal, path: Path) -> None:
    journal._connection.execute("PRAGMA busy_timeout = 10")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match=r"cannot write the journal: .*locked; another process is writing"):
            journal.commit([STARTED], at=1.0)
        other.execute("ROLLBACK")

    assert journal.commit([STARTED], at=1.0) == 1


# ---------------------------------------------------------------------------------------------------------- the disk


def big_turn(number: int) -> list[Entry]:
    return [
        sampled(config(number)),
        leased(config(number)),
        recorded(config(number), info={"text": "x" * 20_000}),
    ]


def test_of_a_turn_that_does_not_fit_nothing_is_stored_and_it_can_be_committed_again(
    journal: Journal, path: Path
) -> None:
    journal.commit(big_turn(0), at=1.0)
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    for _ in range(2):
        with pytest.raises(JournalError, match=r"cannot write the journal: .*full; free space on the disk"):
            journal.commit(big_turn(1), at=2.0)
        assert stored(path) == big_turn(0)
        assert [row["config_id"] for row in JournalReader(path).evaluations()] == [config(0)]

    journal._connection.execute("PRAGMA max_page_count = 100000")
    assert journal.commit(big_turn(1), at=3.0) == 6
    assert stored(path) == [*big_turn(0), *big_turn(1)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_writer_until_there_is_room(small_disk: Path) -> None:
    path = small_disk / "journal.sqlite"
    ballast = small_disk / "ballast"
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()
        acknowledged = 0
        ballast.write_bytes(bytes(200_000))
        with contextlib.suppress(JournalError):
            while True:
                journal.commit(big_turn(acknowledged), at=1.0)
                acknowledged += 1
        assert len(list(journal.entries())) == 3 * acknowledged > 0
        with pytest.raises(JournalError, match="free space on the disk"):
            journal.commit(big_turn(acknowledged), at=1.0)
        ballast.unlink()

        assert journal.commit(big_turn(acknowledged), at=2.0) == 3 * acknowledged + 3
        assert stored(path) == [entry for number in range(acknowledged + 1) for entry in big_turn(number)]


@pytest.mark.parametrize("was_killed", [True, False])
def test_a_reader_needs_no_room_on_the_disk_of_a_journal(was_killed: bool, small_disk: Path, tmp_path: Path) -> None:
    """SQLite makes a file beside a journal that nothing else has open."""
    path, left = tmp_path / "journal.sqlite", small_disk / "left.sqlite"
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()
        journal.commit(big_turn(0), at=1.0)
        for suffix in ("", "-wal") if was_killed else ():
            shutil.copyfile(f"{path}{suffix}", f"{left}{suffix}")
    if not was_killed:
        shutil.copyfile(path, left)
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(512)):
            pass
    assert stored(left) == big_turn(0)
    assert JournalReader(left).finished() is None


WRITER = """
import sys
from test_journal import SETTINGS, Journal, leased, recorded, sampled, config
with Journal.open(sys.argv[1], create=SETTINGS) as journal:
    epoch = journal.begin_epoch()
    number = journal.commit([], at=0.0) // 3
    while True:
        name = config(number)
        journal.commit([sampled(name), leased(name), recorded(name, float(number))], at=1.0)
        number += 1
        print(number, flush=True)
"""


def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(path: Path) -> None:
    acknowledged = 0
    for commits in (1, 30, 7, 110):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        ) as writer:
            assert writer.stdout is not None
            for _ in range(commits):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])

        entries = list(JournalReader(path).entries())
        assert [position for position, _, _ in entries] == list(range(1, len(entries) + 1))
        # Only whole turns; one more than was acknowledged may be stored.
        turns, rest = divmod(len(entries), 3)
        assert rest == 0
        assert acknowledged <= turns <= acknowledged + 1
        assert len(JournalReader(path).evaluations(["done"])) == turns


# ---------------------------------------------------------------------------------------- files that are not journals


def make_foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")


def make_newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")


def make_unknown(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")


def make_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4_096)


def make_header_only(path: Path) -> None:
    os.truncate(path, 50)


def make_empty_beside_a_log(path: Path) -> None:
    path.with_name("journal.sqlite-wal").write_bytes(b"log")
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("harm", "starts_afresh", "message"),
    [
        (make_foreign, True, r"is not a journal of hpbandster_lite; move it away or give another --run-dir"),
        (lambda path: path.write_text("dear diary"), True, r"is not a journal of hpbandster_lite"),
        (make_newer, False, rf"has schema {SCHEMA + 1}, and this hpbandster_lite reads up to {SCHEMA}: .* upgrade"),
        (make_unknown, False, r"has the unknown schema 0"),
        (make_short, False, r"is truncated: it has [\d,]+ of [\d,]+ bytes\. Restore it from a copy.*\.recover"),
        (make_header_only, False, r"is truncated: it has only 50 bytes, less than a header"),
        (make_empty_beside_a_log, False, r"is truncated: it has only 0 bytes"),
    ],
)
def test_what_is_no_whole_journal_is_named_and_left_alone(
    harm: Callable[[Path], object], starts_afresh: bool, message: str, path: Path
) -> None:
    if not starts_afresh:
        with Journal.open(path, create=SETTINGS) as journal:
            journal.begin_epoch()
            journal.commit([STARTED], at=1.0)
    harm(path)
    before = {file.name: digest(file) for file in path.parent.iterdir()}

    for use in (lambda: Journal.open(path, create=SETTINGS), lambda: Journal.open(path), lambda: JournalReader(path)):
        with pytest.raises(JournalError, match=message):
            use()
    assert {file.name: digest(file) for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("is_full", [False, True], ids=["room", "full"])
def test_an_empty_journal_is_no_search_yet_and_nothing_to_restore(
    is_full: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    monkeypatch.setattr("hpbandster_lite.journal.schema.is_full", lambda _: is_full)
    for use in (lambda: JournalReader(path), lambda: Journal.open(path)):
        with pytest.raises(JournalError, match=r"there is no search in .* yet: its journal is empty") as refused:
            use()
        assert ("which is full: free space, then run the command again" in str(refused.value)) is is_full
        assert "restore" not in str(refused.value).lower()
    with Journal.open(path, create=SETTINGS) as journal:
        assert journal.begin_epoch() == 1


def test_a_copy_to_read_goes_where_there_is_room(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()
    first, second = tmp_path / "first", tmp_path / "second"
    free = {str(first): 0, str(second): 10**9}
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.setattr(reader_module, "MEMORY", str(second))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[str(folder)]))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(first))
    with reader_module._copied(path) as copy:
        assert copy.is_relative_to(second)
    free[str(second)] = 0
    words = r"first and .*second has no room for [\d,]+ bytes; free space, or set TMPDIR"
    with pytest.raises(JournalError, match=words), reader_module._copied(path):
        pass

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    free[str(second)] = 10**9
    with reader_module._copied(path) as copy:
        assert copy.is_relative_to(second)


def test_a_missing_journal_is_named(path: Path) -> None:
    for use in (lambda: Journal.open(path), lambda: JournalReader(path)):
        with pytest.raises(JournalError, match=r"there is no journal .*journal\.sqlite; is this the run directory"):
            use()
    assert not path.exists()


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        JournalError, match=r"cannot open the journal: .*unable to open.*check that the directory exists"
    ):
        Journal.open(tmp_path / "nowhere" / "journal.sqlite", create=SETTINGS)


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    with Journal.open(path, create=SETTINGS) as journal:
        assert journal.begin_epoch() == 1


def test_a_file_damaged_inside_is_named_when_it_is_read(journal: Journal, path: Path) -> None:
    for number in range(20):
        journal.commit(big_turn(number), at=1.0)
    journal.close()
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(bytes(path.stat().st_size - 4_096))

    with pytest.raises(JournalError, match=r"malformed; the file is damaged: restore it from a copy"):
        stored(path)
    with pytest.raises(JournalError, match="malformed"):
        Journal.open(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM entries WHERE position = 2", "lacks entry 2"),
        ("UPDATE entries SET entry = 'x' WHERE position = 2", "cannot be read: entry 2: malformed"),
        ("""UPDATE entries SET entry = '{"type":"Later"}' WHERE position = 2""", "entry 2: expected a record"),
        ("""UPDATE entries SET entry = '{"type":"Limits"}' WHERE position = 2""", "has a Limits as entry 2"),
        ("UPDATE search SET settings = '{}'", "cannot be read: its settings: expected a SearchSettings"),
        ("DELETE FROM search", "has no settings"),
    ],
)
def test_what_cannot_be_understood_is_refused_not_skipped(
    journal: Journal, path: Path, change: str, message: str
) -> None:
    journal.commit([STARTED, BracketOpened(bracket=0), Finished(kind=FinishKind.COMPLETE, reason="done")], at=1.0)
    journal._connection.execute(change)

    reader = JournalReader(path)
    with pytest.raises(JournalError, match=message):
        print(reader.settings(), list(reader.entries()))


# ----------------------------------------------------------------------------------------------------------- readers


def test_a_reader_sees_each_commit_at_once_and_never_half_of_it(journal: Journal, path: Path) -> None:
    reader = JournalReader(path)
    for number in range(5):
        journal._connection.execute("BEGIN IMMEDIATE")
        journal._connection.execute("INSERT INTO entries VALUES (999, 0, '{}')")
        assert len(list(reader.entries())) == 3 * number
        journal._connection.execute("ROLLBACK")
        journal.commit(big_turn(number), at=1.0)
        assert len(list(reader.entries())) == 3 * number + 3


def test_a_group_of_questions_opens_the_file_once_and_sees_each_commit(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, connect = JournalReader(path), sqlite3.connect
    opened: list[sqlite3.Connection] = []

    def count(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr("hpbandster_lite.journal.reader.sqlite3.connect", count)
    with reader.group():
        assert reader.settings() is reader.settings()
        assert reader.finished() is None
        journal.commit([STARTED, Finished(kind=FinishKind.COMPLETE, reason="done")], at=1.0)
        assert reader.finished() is not None
        with reader.group():
            assert reader.evaluations() == []
    assert len(opened) == 1
    assert reader.settings() is not reader.settings()
    assert len(opened) == 3


def test_a_reader_keeps_no_lock(journal: Journal, path: Path) -> None:
    reader = JournalReader(path)
    reader.evaluations()
    half_read = reader.entries()
    journal.commit([STARTED, BracketOpened(bracket=0)], at=1.0)
    next(half_read)
    journal.commit([BracketOpened(bracket=1)], at=2.0)
    half_read.close()
    journal._connection.execute("PRAGMA busy_timeout = 0")

    # TRUNCATE waits for every reader: if it is not busy, no reader exists.
    assert journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@pytest.mark.parametrize("ending", ["closed", "killed", "living", "killed on another host"])
def test_a_reader_without_the_right_to_write_sees_every_commit(path: Path, tmp_path: Path, ending: str) -> None:
    journal = Journal.open(path, create=SETTINGS)
    journal.begin_epoch()
    journal.commit([STARTED, *big_turn(0)], at=1.0)
    seen = tmp_path / "seen"
    seen.mkdir()
    if ending == "closed":
        journal.close()
    for file in path.parent.glob("journal.sqlite*"):
        # The files after a kill; another host does not see the memory that the processes of one host share.
        if not (ending == "killed on another host" and file.name.endswith("-shm")):
            shutil.copy(file, seen / file.name)
    if ending == "living":
        seen = path.parent

    with read_only(seen):
        found = stored(seen / path.name)
        best = JournalReader(seen / path.name).best()
    journal.close()

    assert found == [STARTED, *big_turn(0)]
    assert best is not None
    assert best["config_id"] == config(0)


def test_a_reader_leaves_no_copy_behind(
    journal: Journal, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.commit([STARTED], at=1.0)
    journal.close()
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o777)
    temporary.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    with read_only(tmp_path):
        assert stored(path) == [STARTED]
    assert list(temporary.iterdir()) == []


def test_a_copy_is_taken_again_when_the_file_changed_under_it(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.commit([STARTED], at=1.0)
    copy_file = shutil.copyfile
    copied = []

    def copy_and_change(source: Path, target: Path) -> None:
        copy_file(source, target)
        copied.append(source.name)
        if len(copied) == 1:
            journal.commit([BracketOpened(bracket=0)], at=2.0)
            journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            journal.commit([BracketOpened(bracket=1)], at=3.0)

    monkeypatch.setattr(shutil, "copyfile", copy_and_change)
    with reader_module._copied(path) as copy:
        assert stored(copy) == [STARTED, BracketOpened(bracket=0), BracketOpened(bracket=1)]
    assert copied == ["journal.sqlite", "journal.sqlite-wal"] * 2


def test_a_file_that_changes_during_every_copy_is_refused(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = iter(range(10**6))
    monkeypatch.setattr(reader_module, "_fingerprint", lambda path: (next(changes),))

    with pytest.raises(JournalError, match="changed faster than it could be copied"), reader_module._copied(path):
        pass


# ------------------------------------------------------------------------------------------------------------ tables


def one_row(path: Path, rung: int = 0) -> dict[str, Plain]:
    (row,) = (row for row in JournalReader(path).evaluations() if row["rung"] == rung)
    return dict(row)


def test_an_evaluation_is_queued_then_running_then_done(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0), x=0.25)], at=10.0)
    row = one_row(path)
    assert row.items() >= {"config_id": config(0), "rung": 0, "budget": 1.0, "state": "queued", "attempt": 0}.items()
    assert row["queued_at"] == 10.0
    unknown = ["agent", "worker", "leased_at", "started_at", "finished_at", "loss", "failure", "reason", "outcome"]
    assert [row[name] for name in unknown] == [None] * len(unknown)
    journal.commit([leased(config(0))], at=11.0)
    assert (
        one_row(path).items()
        >= {"state": "running", "attempt": 1, "agent": "agent", "worker": "worker 7", "leased_at": 11.0}.items()
    )
    journal.commit([recorded(config(0), 0.5, duration_s=3.0, directory="d")], at=15.0)
    assert (
        one_row(path).items()
        >= {
            "state": "done",
            "queued_at": 10.0,
            "leased_at": 11.0,
            "started_at": 12.0,
            "finished_at": 15.0,
            "loss": 0.5,
            "failure": None,
            "directory": "d",
            "outcome": 3,
        }.items()
    )


def test_a_pause_is_read_with_its_time_until_it_ends(journal: Journal, path: Path) -> None:
    reader = JournalReader(path)
    assert reader.paused() is None
    journal.commit([Paused(reason="maintenance")], at=5.0)
    assert reader.paused() == ("maintenance", 5.0)
    journal.commit([Resumed()], at=6.0)
    assert reader.paused() is None
    journal.commit([Paused()], at=7.0)
    assert reader.paused() == ("", 7.0)


def test_without_a_measured_duration_an_evaluation_started_when_it_was_leased(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0)), leased(config(0))], at=10.0)
    journal.commit([recorded(config(0))], at=15.0)

    assert one_row(path)["started_at"] == 10.0


def test_a_promotion_waits_from_the_end_of_the_rung_below(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0)), sampled(config(1)), leased(config(0)), leased(config(1))], at=10.0)
    journal.commit([recorded(config(0))], at=15.0)
    journal.commit([recorded(config(1))], at=18.0)
    journal.commit([leased(config(0), rung=1)], at=20.0)

    assert one_row(path, rung=1).items() >= {"budget": 3.0, "queued_at": 18.0, "leased_at": 20.0}.items()


def test_a_promotion_from_the_pool_waits_from_the_filling_of_its_rung(journal: Journal, path: Path) -> None:
    own, guest = config(0, bracket=1), config(0)
    for at, each in ((10.0, guest), (12.0, own)):
        journal.commit([sampled(each), leased(each)], at=at)
        journal.commit([recorded(each)], at=at + 1)
    # Rung 0 of bracket 1 has the budget of rung 1 of bracket 0.
    journal.commit([leased(guest, rung=1)], at=14.0)
    journal.commit([recorded(guest, rung=1)], at=15.0)
    journal.commit([RungFilled(bracket=1, rung=1, promoted=(guest, own), basis=0)], at=18.0)
    journal.commit([leased(guest, rung=2), leased(own, rung=1)], at=20.0)

    for each, rung in ((guest, 2), (own, 1)):
        (row,) = (row for row in JournalReader(path).evaluations() if (row["config_id"], row["rung"]) == (each, rung))
        assert (row["budget"], row["queued_at"], row["leased_at"]) == (9.0, 18.0, 20.0)


def test_a_failed_evaluation_tells_kind_and_reason(journal: Journal, path: Path) -> None:
    failure = Failure(kind=FailureKind.CODE, reason="ValueError: \udcff", traceback="line 1", log_tail=("a", "b"))
    journal.commit([sampled(config(0)), leased(config(0)), recorded(config(0), None, failure=failure)], at=10.0)
    reader = JournalReader(path)
    row = one_row(path)

    assert row.items() >= {"state": "failed", "loss": None, "failure": "code", "reason": "ValueError: \\udcff"}.items()
    assert reader.failures() == {"code": 1}
    assert reader.outcome(row["outcome"]).failure == failure


@pytest.mark.parametrize("end", [Released, Expired])
def test_an_evaluation_that_is_handed_back_waits_again(journal: Journal, path: Path, end: type) -> None:
    journal.commit([sampled(config(0)), leased(config(0))], at=10.0)
    journal.commit([end(evaluation=EvaluationId(config(0), 0), attempt=1, agent="agent", reason="gone")], at=12.0)
    assert (
        one_row(path).items()
        >= {"state": "queued", "attempt": 1, "agent": None, "queued_at": 12.0, "leased_at": None}.items()
    )
    journal.commit([leased(config(0), attempt=2, agent="other")], at=14.0)

    assert one_row(path).items() >= {"state": "running", "attempt": 2, "agent": "other", "leased_at": 14.0}.items()


def test_an_evaluation_that_is_put_back_waits_again_without_its_outcome(journal: Journal, path: Path) -> None:
    failure = Failure(kind=FailureKind.CODE, reason="boom")
    journal.commit([sampled(config(0)), leased(config(0))], at=1000.0)
    journal.commit([recorded(config(0), None, failure=failure, directory="d", duration_s=1.0)], at=1010.0)
    assert JournalReader(path).failures() == {"code": 1}
    journal.commit([PutBack(evaluation=EvaluationId(config(0), 0))], at=1020.0)
    row = one_row(path)
    assert (row["state"], row["queued_at"], row["attempt"]) == ("queued", 1020.0, 1)
    ended = ("agent", "worker", "leased_at", "started_at", "finished_at", "loss", "failure", "reason", "directory")
    assert {row[name] for name in (*ended, "outcome")} == {None}
    assert JournalReader(path).failures() == {}
    assert JournalReader(path).endings() == []


def test_a_promotion_that_is_cancelled_before_anyone_leased_it_has_a_row(journal: Journal, path: Path) -> None:
    failure = Failure(kind=FailureKind.CANCELLED, reason="too dear")
    journal.commit([sampled(config(0)), leased(config(0)), recorded(config(0))], at=1000.0)
    outcome = Outcome(failure=failure)
    cancelled = Recorded(evaluation=EvaluationId(config(0), 1), attempt=0, agent="", outcome=outcome)
    journal.commit([cancelled], at=1010.0)
    row = one_row(path, rung=1)
    assert (row["state"], row["failure"], row["attempt"], row["leased_at"]) == ("failed", "cancelled", 0, None)
    assert row["queued_at"] == 1000.0


def test_the_end_of_an_old_attempt_changes_nothing(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0)), leased(config(0)), leased(config(0), attempt=2)], at=10.0)
    before = one_row(path)
    journal.commit([Expired(evaluation=EvaluationId(config(0), 0), attempt=1, agent="agent", reason="gone")], at=12.0)

    assert one_row(path) == before


def test_the_outcome_of_an_old_attempt_does_not_borrow_the_lease_of_the_new_one(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0)), leased(config(0))], at=10.0)
    journal.commit([leased(config(0), attempt=2)], at=20.0)
    journal.commit([recorded(config(0), attempt=1)], at=25.0)

    assert (
        one_row(path).items()
        >= {"state": "done", "attempt": 1, "leased_at": None, "started_at": None, "worker": None}.items()
    )


def test_a_late_report_changes_no_table(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0)), leased(config(0)), recorded(config(0), 0.5)], at=10.0)
    before = one_row(path)
    late = LateReport(evaluation=EvaluationId(config(0), 0), attempt=1, agent="agent", outcome=Outcome(loss=0.1))
    journal.commit([late, BracketOpened(bracket=1), RungShrunk(bracket=0, rung=1, places=1)], at=12.0)

    assert one_row(path) == before


def test_configurations_keep_values_vector_and_origin(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(3), x=0.1, name="\ud800", flag=True)], at=10.0)
    (row,) = JournalReader(path).configurations()

    assert row == {
        "config_id": config(3),
        "values": {"x": 0.1, "name": "\ud800", "flag": True},
        "origin": "model",
        "model_budget": 3.0,
        "sampled_at": 10.0,
        "sampled": 1,
    }
    assert JournalReader(path).configuration(config(3)) == row
    with pytest.raises(JournalError, match="has no configuration 0-0-4"):
        JournalReader(path).configuration(config(4))


def test_a_configuration_sampled_at_a_higher_rung_waits_there(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0, rung=1))], at=10.0)

    assert one_row(path, rung=1)["budget"] == 3.0


def test_the_budget_follows_from_the_bracket(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(0, bracket=bracket)) for bracket in range(4)], at=10.0)

    assert [row["budget"] for row in JournalReader(path).evaluations()] == [1.0, 3.0, 9.0, 1.0]


def test_the_best_has_the_lowest_loss_at_the_highest_budget(journal: Journal, path: Path) -> None:
    reader = JournalReader(path)
    assert reader.best() is None
    journal.commit([sampled(config(n)) for n in range(4)], at=10.0)
    journal.commit([recorded(config(0), 0.3), recorded(config(3), 0.2), recorded(config(1), 0.2)], at=11.0)
    assert reader.best()["config_id"] == config(1)  # type: ignore[index]  # the smaller id of the two
    failure = Failure(kind=FailureKind.MEMORY, reason="")
    journal.commit([recorded(config(1), None, rung=2, failure=failure), recorded(config(3), 0.9, rung=1)], at=12.0)

    best = reader.best()
    assert best is not None
    assert (best["config_id"], best["rung"], best["loss"]) == (config(3), 1, 0.9)


def test_rungs_are_counted_by_state(journal: Journal, path: Path) -> None:
    failure = Failure(kind=FailureKind.CODE, reason="")
    journal.commit([sampled(config(n)) for n in range(4)] + [sampled(config(0, bracket=1))], at=10.0)
    journal.commit([leased(config(1)), recorded(config(2)), recorded(config(3), None, failure=failure)], at=11.0)
    journal.commit([leased(config(2), rung=1)], at=12.0)

    counts = ("queued", "running", "done", "failed", "infeasible", "best")
    assert [
        # Names of its columns.
        (row["bracket"], row["rung"], row["budget"], *(row[name] for name in counts))  # type: ignore[literal-required]
        for row in JournalReader(path).rungs()
    ] == [
        (0, 0, 1.0, 1, 1, 1, 1, 0, 0.5),
        (0, 1, 3.0, 0, 1, 0, 0, 0, None),
        (1, 0, 3.0, 1, 0, 0, 0, 0, None),
    ]
    assert [row["config_id"] for row in JournalReader(path).evaluations(["running"])] == [config(1), config(2)]


def test_what_was_refused_is_counted_apart(journal: Journal, path: Path) -> None:
    journal.commit([sampled(config(n)) for n in range(2)], at=10.0)
    failures = [Failure(kind=kind, reason="") for kind in (FailureKind.INFEASIBLE, FailureKind.CODE)]
    journal.commit([recorded(config(n), None, failure=failure) for n, failure in enumerate(failures)], at=11.0)
    assert [(row["failed"], row["infeasible"]) for row in JournalReader(path).rungs()] == [(2, 1)]


def test_outcomes_come_in_the_order_of_the_journal(journal: Journal, path: Path) -> None:
    first, second = recorded(config(1), info={"a": {1: [2]}}, curve=(CurvePoint(1, 0.5),)), recorded(config(0))
    journal.commit([first], at=1.0)
    journal.commit([second], at=2.0)
    reader = JournalReader(path)

    assert list(reader.outcomes().items()) == [(first.evaluation, first.outcome), (second.evaluation, second.outcome)]
    assert reader.endings() == [
        (1, first.evaluation, 1.0, 0.5, None, 1.0),
        (2, second.evaluation, 1.0, 0.5, None, 2.0),
    ]


def test_a_search_is_finished_until_a_master_takes_it_up_again(journal: Journal, path: Path) -> None:
    reader = JournalReader(path)
    assert (reader.finished(), reader.limits()) == (None, Limits())
    ended = Finished(kind=FinishKind.COMPLETE, reason="all brackets are done")
    journal.commit([STARTED, ended], at=1.0)
    assert (reader.finished(), reader.limits()) == (ended, Limits(brackets=4))
    journal.commit([Started(epoch=2, limits=Limits(brackets=8))], at=2.0)

    assert (reader.finished(), reader.limits()) == (None, Limits(brackets=8))


def test_time_spent_is_the_time_between_commits_of_earlier_masters(path: Path) -> None:
    own = 0.0
    for times in ([10.0, 12.0, 15.0], [100.0], [200.0, 190.0, 204.0], []):
        with Journal.open(path, create=SETTINGS) as journal:
            journal.begin_epoch()
            for at in times:
                journal.commit([], at=at)
            own = journal.spent_s()

    # 5 s, then 0 s: a clock that was set back by 10 s counts as no time; then 14 s.
    assert own == 19.0
    assert [row["served_s"] for row in JournalReader(path).masters()] == [5.0, 0.0, 14.0, 0.0]
    with Journal.open(path) as not_begun:
        assert not_begun.spent_s() == 19.0


def test_a_wall_clock_that_jumps_by_a_day_is_no_time_spent(path: Path) -> None:
    ticks = iter([100.0, 103.0, 104.0])
    with Journal.open(path, create=SETTINGS, clock=lambda: next(ticks)) as journal:
        journal.begin_epoch()
        for at in (0.0, 86_400.0, 10.0):
            journal.commit([], at=at)
    with Journal.open(path) as later:
        assert later.spent_s() == 4.0


# ---------------------------------------------------------------------------------------------------------- settings


def changed(**problem: Plain) -> SearchSettings:
    return replace(SETTINGS, problem=replace(SETTINGS.problem, **problem))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (replace(SETTINGS, seed=2), "seed: 1 in the journal, 2 requested"),
        (replace(SETTINGS, eta=4.0), "eta: 3.0 in the journal, 4.0 requested"),
        (replace(SETTINGS, budgets=(1.0, 9.0)), "budgets: 1, 3, 9 in the journal, 1, 9 requested"),
        (replace(SETTINGS, unit="seconds"), "unit: epochs in the journal, seconds requested"),
        (replace(SETTINGS, algorithm="random"), "algorithm: bohb in the journal, random requested"),
        (replace(SETTINGS, bracket_rule="ceil"), "bracket rule: floor in the journal, ceil requested"),
        (replace(SETTINGS, max_attempts=5), "max_attempts: 3 in the journal, 5 requested"),
        (replace(SETTINGS, sampler={"rho": 0.5}), "sampler parameter 'rho': the default in the journal, 0.5 requested"),
        (replace(SETTINGS, initial=({"x": 1.0},)), "initial configurations: 0 in the journal, 1 others requested"),
        (changed(name="iris"), "problem: digits in the journal, iris requested"),
    ],
)
def test_a_setting_that_may_not_change_is_named_with_both_values(new: SearchSettings, message: str) -> None:
    difference = settings_difference(SETTINGS, new)
    assert difference is not None
    assert difference.sentence == message


def test_a_changed_space_is_named_by_its_first_difference() -> None:
    difference = settings_difference(SETTINGS, changed(space_json=space(2.0)))

    assert difference is not None
    assert difference.setting == "search space"
    assert difference.sentence.startswith("search space: ")
    assert "'x'" in difference.sentence
    assert "upper" in difference.sentence


def test_what_earlier_results_do_not_depend_on_may_change() -> None:
    free = replace(SETTINGS, run_id="other", seed_was_given=False, lease_s=5.0, heartbeat_s=1.0, sampler={}, initial=())
    free = replace(
        free, problem=replace(SETTINGS.problem, reference="digits.py", source_hash="f00", space_json=space(1.0))
    )

    assert settings_difference(SETTINGS, free) is None


def test_every_setting_is_either_compared_or_free() -> None:
    compared = {
        "problem",
        "budgets",
        "eta",
        "unit",
        "maximize",
        "algorithm",
        "bracket_rule",
        "seed",
        "sampler",
        "initial",
        "skip_default",
        "max_attempts",
    }

    assert {entry.name for entry in fields(SearchSettings)} == compared | {
        "run_id",
        "seed_was_given",
        "replaces_forbidden_default",
        "keeps_given_values",
        "lease_s",
        "heartbeat_s",
    }


# ------------------------------------------------------------------------------------------------------------- sealed


def test_a_sealed_journal_is_one_file_that_can_be_read_where_nothing_can_be_written(
    journal: Journal, path: Path
) -> None:
    journal.commit([BracketOpened(bracket=0)], at=1.0)
    journal.seal()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert stored(path) == [BracketOpened(bracket=0)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_journal_that_is_being_read_stays_as_it_is_and_may_be_written_on(journal: Journal, path: Path) -> None:
    journal.commit([BracketOpened(bracket=0)], at=1.0)
    entries = JournalReader(path).entries()
    next(entries)
    journal.seal()
    journal.commit([BracketOpened(bracket=1)], at=2.0)
    entries.close()
    journal.seal()
    journal.commit([BracketOpened(bracket=2)], at=3.0)
    assert stored(path) == [BracketOpened(bracket=number) for number in range(3)]


def test_a_sealed_journal_opened_again_is_written_ahead_as_before(journal: Journal, path: Path) -> None:
    journal.commit([BracketOpened(bracket=0)], at=1.0)
    journal.seal()
    journal.close()
    with Journal.open(path) as again:
        again.begin_epoch()
        again.commit([BracketOpened(bracket=1)], at=2.0)
        assert path.with_name(f"{path.name}-wal").exists()
    assert stored(path) == [BracketOpened(bracket=0), BracketOpened(bracket=1)]


@pytest.mark.parametrize(("content", "holds"), [(None, False), (b"", False), (b"anything", True)])
def test_an_empty_file_is_no_journal_and_a_foreign_one_is_something(
    content: bytes | None, holds: bool, path: Path
) -> None:
    if content is not None:
        path.write_bytes(content)
    assert holds_anything(path) == holds


def test_a_journal_whose_log_was_never_folded_in_is_something(path: Path) -> None:
    path.touch()
    path.with_name(f"{path.name}-wal").write_bytes(b"log")
    assert holds_anything(path)
