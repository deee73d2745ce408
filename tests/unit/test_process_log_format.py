"""Control characters in foreign text have no effect in logs and on terminals."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import unicodedata
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from hpbandster_lite.cli.view import terminal
from hpbandster_lite.process.environment import LOG_FORMAT_VARIABLE
from hpbandster_lite.process.log_format import (
    FORMAT,
    JSON,
    TEXT,
    EscapingFormatter,
    JsonFormatter,
    escape_controls,
    use_log_format,
    write_line,
)

HOSTILE = "\x1b[2J\x1b]0;title\x07\rgone\x9b31m\u202egnp.exe\u2028\ud800"


def controls(text: str) -> set[str]:
    """Characters that control a terminal, or that have no encoding."""
    reordering = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        each
        for each in set(text) - set("\n\t")
        if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(each) in reordering
    }


def logged(message: str, *arguments: object, error: BaseException | None = None) -> str:
    exc_info = (type(error), error, None) if error is not None else None
    record = logging.LogRecord("hpbandster_lite.master", logging.WARNING, "", 0, message, arguments, exc_info)
    return EscapingFormatter(FORMAT).format(record)


@given(text=st.text() | st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_no_control_character_is_left_in_what_is_shown(text: str) -> None:
    assert not controls(escape_controls(text))
    escape_controls(text).encode("utf-8")


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert escape_controls(text + "\n\t") == text + "\n\t"


def test_a_control_character_is_written_out_so_that_it_is_seen() -> None:
    assert escape_controls("a\x1bb\u202ec") == r"a\x1bb\u202ec"


@given(text=st.text())
def test_an_entry_of_a_log_cannot_look_like_another_one(text: str) -> None:
    first, *others = logged("worker %s", text).split("\n")
    assert re.match(r"\d{4}-\d\d-\d\d .* WARNING hpbandster_lite\.master: worker ", first)
    assert all(line.startswith("    ") for line in others)
    assert not controls(logged("worker %s", text))


def test_neither_can_an_error_with_its_traceback() -> None:
    forged = "2026-01-01 00:00:00,000 INFO hpbandster_lite.master: the search is over"
    output = logged("it failed", error=ValueError(f"{HOSTILE}\n{forged}"))
    assert not controls(output)
    assert all(line.startswith("    ") for line in output.split("\n")[1:])


@pytest.mark.parametrize("as_text", [False, True])
def test_a_terminal_is_sent_no_control_that_stands_in_a_cell(as_text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = terminal.console()
    out.file = io.StringIO()
    out._force_terminal = True
    table = Table("name", "failure")
    table.add_row(Text(HOSTILE) if as_text else HOSTILE, "[red]ok[/]")
    out.print(table)
    out.print(HOSTILE, markup=False)
    output = out.file.getvalue()
    assert r"\x1b[2J" in output
    # Only our own colours pass.
    assert not controls(re.sub(r"\x1b\[[0-9;]*m", "", output))
    assert "\x1b[31mok" in output or "ok" in output


# --------------------------------------------------------------------------------------------------------------- JSON


def entry_of(
    message: str, *arguments: object, error: BaseException | None = None, **extra: object
) -> dict[str, object]:
    """The one object in a line of the log."""
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    logger = logging.getLogger("hpbandster_lite.agent")
    record = logger.makeRecord(logger.name, logging.WARNING, "", 0, message, arguments, exc_info, extra=extra)
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@given(text=st.text() | st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_an_entry_in_json_is_one_line_with_the_message_unchanged(text: str) -> None:
    encodable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    assert entry_of("worker %s", text)["message"] == f"worker {encodable}"


def test_an_entry_in_json_has_its_time_level_logger_and_fields() -> None:
    entry = entry_of("evaluation %s", "0-0-3@1", evaluation="0-0-3@1", attempt=2, place=re.compile("x"))
    assert datetime.fromisoformat(str(entry["time"])).tzinfo is not None
    assert (entry["level"], entry["logger"], entry["message"]) == (
        "WARNING", "hpbandster_lite.agent", "evaluation 0-0-3@1",
    )  # fmt: skip
    assert (entry["evaluation"], entry["attempt"], entry["place"]) == ("0-0-3@1", 2, "re.compile('x')")
    assert "exception" not in entry


def test_a_traceback_is_inside_the_entry_in_json() -> None:
    try:
        raise ValueError("too\nlong")
    except ValueError as error:
        entry = entry_of("it failed", error=error)
    assert entry["message"] == "it failed"
    assert str(entry["exception"]).startswith("Traceback (most recent call last):\n")
    assert str(entry["exception"]).endswith("ValueError: too\nlong")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process that logs to standard error writes there, in JSON."""
    written, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(written)
    handler.setFormatter(EscapingFormatter(FORMAT))
    monkeypatch.setenv(LOG_FORMAT_VARIABLE, TEXT)
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    hooks = sys.excepthook, threading.excepthook
    use_log_format(JSON)
    yield written
    use_log_format(TEXT)
    sys.excepthook, threading.excepthook = hooks


def test_notes_and_exceptions_that_nothing_caught_are_entries_too(log: io.StringIO) -> None:
    write_line("note: mind the gap")
    try:
        raise KeyError("x")
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
    entries = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [entry["message"] for entry in entries] == ["note: mind the gap", "'x'", "'x'"]
    assert [entry["level"] for entry in entries] == ["INFO", "CRITICAL", "CRITICAL"]
    assert all(entry["exception"].endswith("KeyError: 'x'") for entry in entries[1:])
