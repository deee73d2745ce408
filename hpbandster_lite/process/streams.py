"""The three standard streams of a process: each is open, and writes every character.

Law of this file: a command works with any of them closed, and with any encoding. A character that the encoding of a
stream does not have is replaced by one of ASCII or by its escape.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TextIO

REPLACES = "hpbandster_lite"
"""Name of the error handler for characters that an encoding does not have."""
SIZES = ("COLUMNS", "LINES")
"""Variables that rich reads; some programs that start others without a terminal set them to 0."""
# By code point, because the names of these characters in source text look alike.
_ASCII = {
    0x00B7: "-",  # middle dot
    0x00B1: "+-",
    0x00D7: "x",
    0x2010: "-",
    0x2011: "-",
    0x2013: "-",
    0x2014: "-",
    0x2018: "'",
    0x2019: "'",
    0x201C: '"',
    0x201D: '"',
    0x2022: "*",
    0x2026: "...",
    0x2190: "<-",
    0x2192: "->",
    0x2264: "<=",
    0x2265: ">=",
}


def make_usable(encoding: str | None = None) -> None:
    """Open closed descriptors from 0 to 2 on the null device, and let standard output write every character.

    Otherwise the next file or pipe would get the number of a closed descriptor: a child process could not inherit it,
    and what a library prints would be written into the file. A terminal of size 0 counts as one of unknown size.

    Parameters
    ----------
    encoding
        Encoding of standard output and error. Default: that which Python chose.
    """
    open_closed_descriptors()
    for name in SIZES:
        # A terminal of no size prints nothing.
        if os.environ.get(name) == "0":
            del os.environ[name]
    sys.stdin = sys.stdin or _stream(0, "r")
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _stream(number, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors=REPLACES)


def open_closed_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that are closed on the null device, for child processes too."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # noqa: PERF203 (three times in a process)
            # The lowest free number is this one. Inheritable, as the standard streams are.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _stream(number: int, mode: str) -> TextIO:
    return open(number, mode, encoding="utf-8", errors=REPLACES, closefd=False)  # type: ignore[return-value]  # mode is no literal


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    plain = _ASCII.get(ord(character))
    if plain is not None:
        return plain, error.start + 1
    return codecs.backslashreplace_errors(
        UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    )


codecs.register_error(REPLACES, _replaced)
