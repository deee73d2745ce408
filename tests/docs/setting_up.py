"""Commands of a document that set up a machine: they are compared with ``.ci/run`` instead of run.

Law of this file: pure functions. A document may use only set-up commands that continuous integration runs on each
commit, so that every set-up in the documents is tested.
"""

from __future__ import annotations

import re

_FETCH = re.compile(r"git clone \S+(?: \S+)?|cd \w[\w.-]*")
_ENVIRONMENT = re.compile(r"python3(?:\.\d+)? -m venv (\S+)")
_INSTALL = re.compile(r"(?:\S*/)?(?:pip|python[\d.]* -m pip|uv pip) install\b.*")
_EXTRA = re.compile(r"\.\[\w+\]")


def without_setting_up(script: str, *, ci: str) -> str:
    """The commands of a bash block that the test runs.

    Omitted are commands that fetch the sources (``git clone``, and a ``cd`` beside it), create the virtual environment,
    install the package, or occur literally in ``ci``, the text of ``.ci/run``.

    Raises
    ------
    AssertionError
        A command sets up something in another way than ``.ci/run``.
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
    """Whether a command sets up the machine; raises if it differs from ``ci``."""
    command = re.sub(r"\s+#.*$", "", command)
    if environment := _ENVIRONMENT.fullmatch(command):
        assert environment[1] == ".venv", f"{command!r}: .ci/run and the other documents name the environment .venv"
        return True
    if _INSTALL.fullmatch(command):
        is_same = stands_in(_EXTRA.sub(".[EXTRA]", ci), _EXTRA.sub(".[EXTRA]", command))
        assert is_same, f"{command!r} is not how .ci/run installs the package"
        return True
    return (fetches and _FETCH.fullmatch(command) is not None) or stands_in(ci, command)


def stands_in(ci: str, command: str) -> bool:
    """Whether a line of ``ci`` is the command, or a step with this command."""
    return re.search(rf"(?:^|\s){re.escape(command)}$", ci, re.MULTILINE) is not None
