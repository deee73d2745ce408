"""An exception of user code as text, and what caused it.

Law of this file: user code wrote the exception, so nothing of it is trusted: its ``__str__`` may raise, and its causes
may form a cycle.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator


def one_line(error: BaseException) -> str:
    """Its class and the first line of its message."""
    # traceback also handles an exception whose __str__ raises.
    lines = traceback.format_exception_only(type(error), error)
    return next((line for line in lines if not line.startswith(" ")), lines[-1]).strip()


def explicit_causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, the one that it was raised from, and so on."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__
