"""Lines of a document that set a machine up: they are compared with what ``.ci/run`` does, not run again.

Law of this file: text in, text out. A document may say only what continuous integration does on each commit, so that a
reader's machine is never set up in a way that nobody tries.
"""

from __future__ import annotations

import re

_FETCH = re.compile(r"git clone \S+(?: \S+)?|cd \w[\w.-]*")
_ENVIRONMENT = re.compile(r"python3(?:\.\d+)? -m venv (\S+)")
_INSTALL = re.compile(r"(?:\S*/)?(?:pip|python[\d.]* -m pip|uv pip) install\b.*")
_EXTRA = re.compile(r"\.\[\w+\]")


def without_setting_up(script: str, *, ci: str) -> str:
    """The commands of a bash block that are to be run here.

    Left out are those that fetch the sources (``git clone``, and a ``cd`` beside it), make the virtual environment,
    install the package, or stand in ``ci``, the text of ``.ci/run``, word for word.

    Raises
    ------
    AssertionError
        A command sets up something that ``.ci/run`` does not.
    """
    fetches = "git clone" in script
    kept = []
    for line in re.sub(r"\s*\\\n\s*", " ", script).splitlines():
        pieces = [piece.strip() for piece in re.split(r"\s&&\s", line)]
        left = [piece for piece in pieces if not sets_up(piece, ci=ci, fetches=fetches)]
        if left:
            kept.append(line if left == pieces else " && ".join(left))
    return "\n".join(kept)


def sets_up(command: str, *, ci: str, fetches: bool) -> bool:
    """Whether a command sets the machine up; one that differs from ``ci`` raises."""
    command = re.sub(r"\s+#.*$", "", command)
    if environment := _ENVIRONMENT.fullmatch(command):
        assert environment[1] == ".venv", f"{command!r}: .ci/run and the other documents call the environment .venv"
        return True
    if _INSTALL.fullmatch(command):
        said = stands_in(_EXTRA.sub(".[EXTRA]", ci), _EXTRA.sub(".[EXTRA]", command))
        assert said, f"{command!r} is not how .ci/run installs the package"
        return True
    return (fetches and _FETCH.fullmatch(command) is not None) or stands_in(ci, command)


def stands_in(ci: str, command: str) -> bool:
    """Whether a line of ``ci`` is the command, or a step that consists of it."""
    return re.search(rf"(?:^|\s){re.escape(command)}$", ci, re.MULTILINE) is not None
