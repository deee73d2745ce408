"""What agents left in ``reports/`` because no master acknowledged it, of this version and of earlier ones.

Law of this file: a file that cannot be understood is set aside, never deleted. Protocol 1 wrote the same fields without
the type of the record.
"""

from __future__ import annotations

import logging
from pathlib import Path

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.protocol.messages import LeftReport, ReleaseRequest
from hpbandster_lite.records import Plain

log = logging.getLogger(__package__)


def left_behind(file: Path) -> LeftReport | ReleaseRequest | None:
    """The report or release in a file; None where the file holds neither, which sets it aside.

    Raises
    ------
    OSError
        If the file cannot be read at present.
    """
    try:
        content = wire.decode(file.read_text("utf-8"))
        if file.suffix == ".json":
            return wire.from_message(_with_type(content, "left-report"), LeftReport)
        return wire.from_message(_with_type(content, "release-request"), ReleaseRequest)
    except (ValueError, RecursionError, ProtocolMismatch) as error:
        set_aside(file, error)
        return None


def set_aside(file: Path, error: Exception) -> None:
    """Rename a file that holds no report of this search.

    Raises
    ------
    OSError
        If it cannot be renamed.
    """
    log.error("%s is not a report, and is set aside: %r", file, error)
    # With both suffixes: a report and a release may have one name.
    file.replace(file.with_name(f"{file.name}.refused"))


def _with_type(content: Plain, tag: str) -> Plain:
    return {"type": tag, **content} if isinstance(content, dict) else content
