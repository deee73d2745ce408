"""Journals with changes from outside: bytes of the file, and rows that SQLite accepts.

Law: a reader answers or raises a :class:`JournalError`, never another error, and changes nothing. The same holds for a
writer that opens such a file.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import ConfigId, Limits
from tests.engine_room import granted, loss, settings_for, space_of, started
from tests.fuzz.mutations import changed_value, mutated, odd_value

QUESTIONS: tuple[Callable[[JournalReader], object], ...] = (
    lambda reader: reader.settings(),
    lambda reader: reader.limits(),
    lambda reader: reader.finished(),
    lambda reader: reader.paused(),
    lambda reader: reader.masters(),
    lambda reader: reader.configurations(),
    lambda reader: reader.configuration(ConfigId(0, 0, 0)),
    lambda reader: reader.evaluations(),
    lambda reader: reader.rungs(),
    lambda reader: reader.failures(),
    lambda reader: reader.seconds_taken(),
    lambda reader: reader.configuration_count(),
    lambda reader: reader.budget_started(),
    lambda reader: reader.shrunk_rungs(),
    lambda reader: reader.promotions(),
    lambda reader: reader.best(),
    lambda reader: reader.endings(),
    lambda reader: reader.outcomes(),
    lambda reader: list(reader.entries()),
)


def make_journal(path: Path) -> Path:
    """Make the journal of a small finished search, in one file."""
    space = space_of()
    engine = started(Limits(brackets=2), space=space)
    with Journal.open(path, create=settings_for(space)) as journal:
        journal.begin_epoch()
        turn = engine.start(2, Limits(brackets=2), now=0.0)
        journal.commit(turn.entries, at=1_000.0)
        number = 0
        while engine.finished is None and number < 30:
            leased = engine.lease("agent", number, now=float(number))
            journal.commit(leased.entries, at=1_000.0 + number)
            if engine.finished is None:
                grant = granted(engine, "agent", number, float(number))
                ended = engine.report("agent", loss(grant, 1.0 / (1 + number)), now=float(number))
                journal.commit(ended.entries, at=1_000.5 + number)
            number += 1
        journal.seal()
    return path


def change_bytes(path: Path, rng: random.Random) -> None:
    """Change bytes of the file, two thirds of the time in its header."""
    data = path.read_bytes()
    at = rng.choice((0, rng.randrange(100), rng.randrange(len(data))))
    size = rng.choice((4, 100, 1_000))
    path.write_bytes(data[:at] + mutated(data[at : at + size], rng) + data[at + size :])


def change_rows(path: Path, rng: random.Random) -> None:
    """Change values of rows, in a file that SQLite accepts."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice([each for each in tables if not each.startswith("sqlite")])
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = rng.choice(columns)
        # Names of our own tables.
        values = [row[0] for row in connection.execute(f"SELECT {column} FROM {table}")]  # noqa: S608
        if not values:
            return
        value = rng.choice(values)
        with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
            if rng.random() < 0.1:
                # Names of our own tables.
                connection.execute(f"DELETE FROM {table} WHERE {column} IS ?", (value,))  # noqa: S608
            else:
                # Names of our own tables.
                statement = f"UPDATE {table} SET {column} = ? WHERE {column} IS ?"  # noqa: S608
                connection.execute(statement, (_other(value, rng), value))


def _other(value: object, rng: random.Random) -> object:
    if isinstance(value, str) and rng.random() < 0.7:
        with contextlib.suppress(ValueError):
            return json.dumps(changed_value(json.loads(value), rng))
        return mutated(value.encode(), rng).decode("utf-8", "replace")
    odd = odd_value(rng)
    return odd if isinstance(odd, int | float | str | None) else rng.randbytes(10)


def check(path: Path, what: str) -> bool:
    """Run every query; return whether all succeeded."""
    before = path.read_bytes()
    all_answered = True
    for number, question in enumerate(QUESTIONS):
        all_answered &= _answered(path, question, f"{what}, question {number}")
    assert path.read_bytes() == before, f"{what}: a reader has changed the file"
    try:
        Journal.open(path).close()
    except JournalError:
        all_answered = False
    except Exception as error:
        raise AssertionError(f"{what}: the writer met {error!r}") from error
    return all_answered


def _answered(path: Path, question: Callable[[JournalReader], object], what: str) -> bool:
    try:
        question(JournalReader(path))
    except JournalError:
        return False
    except Exception as error:
        raise AssertionError(f"{what}: it met {error!r}") from error
    return True


def run(inputs: int, seed: int, place: Path) -> tuple[int, int]:
    """Change and read a journal ``inputs`` times; return this number, and how many could be read whole."""
    source = make_journal(place / "source.sqlite")
    assert check(source, "the journal itself")
    read = 0
    for number in range(inputs):
        read += one(source, f"{seed} {number}")
    return inputs, read


def one(source: Path, seed: str) -> bool:
    """Change a copy of a journal once and read it; return whether all of it could be read."""
    rng = random.Random(seed)
    path = source.with_name("changed.sqlite")
    for left in path.parent.glob("changed.sqlite*"):
        left.unlink()
    shutil.copy(source, path)
    (change_bytes if rng.random() < 0.5 else change_rows)(path, rng)
    return check(path, f"seed {seed!r}")
