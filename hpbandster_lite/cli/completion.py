"""What a shell shows beside the words that it completes.

Law of this file: one short line of plain words for each. A shell takes each further line for another word, and zsh
reads quotes, brackets and some other marks as its own.
"""

from __future__ import annotations

import os
import re
from typing import Any

from hpbandster_lite.errors import UsageError

VARIABLE = "_HPBANDSTER_LITE_COMPLETE"
"""A shell sets it when it asks for completions."""
MOST_LETTERS = 60
_FLAGS = ("--install-completion", "--show-completion")
_MARKUP = re.compile(r"\[/?[a-z]*\]")
_END = re.compile(r"\.(?:\s|$)|\s*\\?\[")
_OTHER = re.compile(r"'s\b|[^\w ,.=+/-]")


def is_asked() -> bool:
    """Whether a shell asks for completions."""
    return VARIABLE in os.environ


def refuse_a_shell(words: list[str]) -> None:
    """Refuse the name of a shell: the completion is that of the shell in which the command is typed.

    Raises
    ------
    UsageError
        If the arguments of the command name one.
    """
    if words[:1] and words[0] in _FLAGS and len(words) > 1:
        raise UsageError(
            f"{words[0]} takes no value, got {' '.join(words[1:])!r}: it is for the shell in which you type it; type "
            f"it in that shell, without a name: hpbandster-lite {words[0]}"
        )


def shorten(command: Any) -> None:
    """Shorten the help of a command of click, of its options, and of the commands in it."""
    for each in getattr(command, "commands", {}).values():
        shorten(each)
    command.short_help = brief(command.short_help or command.help or "")
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = brief(parameter.help)


def brief(text: str) -> str:
    """The beginning of a help text as one short line of plain words."""
    first = _OTHER.sub("", _END.split(_MARKUP.sub("", " ".join(text.split())))[0])
    if len(first) <= MOST_LETTERS:
        return first
    return f"{first[: MOST_LETTERS - 3].rpartition(' ')[0].rstrip(',')}..."
