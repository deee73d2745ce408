"""UTF-8 for the names of files, under every locale.

Law of this file: all processes of a search decode the names of files alike, because records name files as text. Python
follows the locale, unless it is in its UTF-8 mode, which is chosen when a process starts. So a command under another
locale starts itself again in this mode, and each child that runs Python is started in it, too.
"""

from __future__ import annotations

import os
import sys

OUTPUT = "HPBANDSTER_LITE_OUTPUT_ENCODING"
"""Environment variable with the encoding of the standard streams, which a command keeps when it starts itself again."""


def python_command(*arguments: str) -> list[str]:
    """The command that runs Python with these arguments, such as ``-m`` and a module."""
    mode = () if _is_utf8() and not sys.flags.utf8_mode else ("-X", "utf8")
    return [sys.executable, *mode, *arguments]


def start_again_in_utf8() -> None:
    """Replace this process by one that decodes names of files as UTF-8, unless it does so."""
    if _is_utf8() or not sys.executable:
        return
    encoding = getattr(sys.stdout, "encoding", None)
    if encoding is not None:
        os.environ[OUTPUT] = encoding
    os.execv(sys.executable, python_command(*sys.orig_argv[1:]))  # noqa: S606 (its own arguments)


def output_encoding() -> str | None:
    """The encoding of the streams before the process started itself again; child processes do not inherit it."""
    return os.environ.pop(OUTPUT, None)


def _is_utf8() -> bool:
    return sys.getfilesystemencoding().lower().replace("-", "") == "utf8"
