"""``host:port`` as text: reading, checking and writing it.

Law of this file: an IPv6 address is in brackets, and no name is resolved here.
"""

from __future__ import annotations

import re

from hpbandster_lite.errors import UsageError

LAST_PORT = 65_535
_HOST_PORT = re.compile(r"\[([0-9a-fA-F:]+)\]:(\d+)|([^:\s]+):(\d+)")


def parse_host_port(option: str, text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``.

    Parameters
    ----------
    option
        The name of the option with this value, for the error.
    text
        For example ``login:9090``, ``10.0.0.1:9090`` or ``[fd00::1]:9090``.

    Raises
    ------
    UsageError
        If the text does not have this form, or the port is out of range.
    """
    match = _HOST_PORT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r}: write HOST:PORT, for example 127.0.0.1:9090")
    return match[1] or match[3], check_port(option, int(match[2] or match[4]))


def check_port(option: str, port: int) -> int:
    """Return the port if it is in range.

    Raises
    ------
    UsageError
        If it is not; the message names the option.
    """
    if not 0 <= port <= LAST_PORT:
        raise UsageError(f"{option}: port {port} is out of range; give one from 0 (any free port) to {LAST_PORT}")
    return port


def format_host_port(host: str, port: int) -> str:
    """The text that :func:`parse_host_port` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
