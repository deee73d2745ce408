"""The formats of log lines, text and JSON, and escaping of control characters for terminals and logs.

Law of this file: text from a peer, an objective or a file may contain any characters. Characters that would move the
cursor, colour, hide or reorder text, or imitate a log line are replaced by escapes. With JSON every line that a process
writes to its log is one object, also its last error and the traceback of an exception that nothing caught.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from datetime import datetime, timezone
from typing import Any

from hpbandster_lite.process.environment import LOG_FORMAT_VARIABLE

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
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


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes that every entry has; others are fields that the caller gave as ``extra``."""


class JsonFormatter(logging.Formatter):
    """One JSON object for each entry: ``time``, ``level``, ``logger``, ``message``, ``pid``, and the entry's fields.

    ``time`` is in UTC. ``exception`` and ``stack`` have a traceback, as text with line ends.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one entry."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in entry}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        texts = {name: _encodable(value) for name, value in entry.items() if isinstance(value, str)}
        return json.dumps(entry | texts, ensure_ascii=True, default=str)


def _encodable(text: str) -> str:
    """The text with escapes for what has no encoding, which parsers of JSON may refuse."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def log_to_stderr(form: str = FORMAT) -> None:
    """Send this process's log to standard error; call it once, in the main function.

    The environment variable HPBANDSTER_LITE_LOG_FORMAT, which child processes inherit, may select JSON.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if logs_json():
        use_log_format(JSON)


def logs_json() -> bool:
    """Whether this process logs JSON."""
    return os.environ.get(LOG_FORMAT_VARIABLE) == JSON


def use_log_format(name: str) -> None:
    """Use a format of :data:`FORMATS` from now on, in this process and in those that it starts."""
    os.environ[LOG_FORMAT_VARIABLE] = name
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, EscapingFormatter | JsonFormatter):
            handler.setFormatter(JsonFormatter() if name == JSON else EscapingFormatter(FORMAT))
    is_json = name == JSON
    logging.captureWarnings(is_json)
    sys.excepthook = _log_uncaught if is_json else sys.__excepthook__
    threading.excepthook = _log_uncaught_in_thread if is_json else threading.__excepthook__


def _log_uncaught(*error: Any) -> None:
    logging.getLogger("hpbandster_lite").critical("%s", error[1], exc_info=error)


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit and arguments.exc_value is not None:
        _log_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def write_line(text: str) -> None:
    """Write a line for users to standard error; where the log is JSON, as an entry of the log."""
    if logs_json():
        logging.getLogger("hpbandster_lite").info("%s", text)
    else:
        sys.stderr.write(f"{escape_controls(text)}\n")
        sys.stderr.flush()
