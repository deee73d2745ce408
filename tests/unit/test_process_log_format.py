"""Control characters in foreign text have no effect in logs and on terminals."""

from __future__ import annotations

import io
import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from hpbandster_lite.cli.view import terminal
from hpbandster_lite.process.log_format import FORMAT, EscapingFormatter, escape_controls

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
