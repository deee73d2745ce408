"""The format of log lines, and escaping of control characters for terminals and logs.

Law of this file: text from a peer, an objective or a file may contain any characters. Characters that would move the
cursor, colour, hide or reorder text, or imitate a log line are replaced by escapes.
"""

from __future__ import annotations

import logging
import re
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_INDENT = "\n    "
# Controls of ASCII and Latin-1 except tab and new line, marks and overrides of text direction, other line separators,
# and surrogates, which cannot be encoded.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""The text with control characters escaped: ``\x1b`` for escape; tabs and new lines stay."""
    return _CONTROLS.sub(lambda found: _escape(found[0]), text) if _CONTROLS.search(text) else text


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class EscapingFormatter(logging.Formatter):
    """Escapes control characters in log lines, and indents all lines of an entry after the first.

    So a line that begins with a time always begins a log entry, even if the text of a peer contains such lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one entry."""
        return escape_controls(super().format(record)).replace("\n", _INDENT)


def log_to_stderr(form: str = FORMAT) -> None:
    """Send this process's log to standard error; call it once, in the main function."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
