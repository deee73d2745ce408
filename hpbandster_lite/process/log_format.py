"""How processes speak to people: what others said is shown to a terminal and to a log, and never obeyed by them.

Law of this file: text of a peer, an objective or a file may hold anything; what would move a cursor, recolour, hide or
reorder what stands around it, or look like a line of ours, is written out as an escape.
"""

from __future__ import annotations

import logging
import re
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_INDENT = "\n    "
# Controls of ASCII and Latin-1 but for tab and new line, marks and overrides of direction (which make text read other
# than it is), other ends of lines, and halves of characters, which cannot be written at all.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""A text with every control character written out: ``\x1b`` for escape; tabs and new lines stay."""
    return _HARMFUL.sub(lambda found: _written(found[0]), text) if _HARMFUL.search(text) else text


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class EscapingFormatter(logging.Formatter):
    """Log lines as they are, but for control characters; what is not the first line of an entry is indented.

    So a line that begins with a time is one of ours, whatever a peer or a traceback has in it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One entry."""
        return escape_controls(super().format(record)).replace("\n", _INDENT)


def log_to_stderr(form: str = FORMAT) -> None:
    """Let this process log to its standard error; called once, by its main function."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
