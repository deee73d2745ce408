"""Options of the problem on the command line: those that the command itself does not have.

Law of this file: the options of a problem are known where it is imported, in another process, so they are passed on as
text. An option that this process refuses may be a misspelt option of the command, and the error names the nearest ones
of both.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from hpbandster_lite.errors import ProblemError, UnknownOption, UsageError, nearest_names
from hpbandster_lite.problems import with_options

PASSES_ON: Mapping[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a command that takes options of a problem."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_BEGINS_AN_OPTION = re.compile(r"--|-[A-Za-z]")
"""Matches the beginning of an option, which is never a value; a negative number is a value."""


def with_typed_options(problem: str, ctx: typer.Context) -> str:
    """The problem's reference with the options that the command does not know.

    Raises
    ------
    UsageError
        If an option stands before the problem, or an argument is neither an option nor its value.
    """
    if problem.startswith("-"):
        raise UsageError(
            f"{problem} is not a problem{_did_you_mean(problem, ctx)}; give the problem first, and "
            "its options after it"
        )
    return with_options(problem, typed_options(ctx.args, ctx))


def typed_options(words: Sequence[str], ctx: typer.Context) -> dict[str, str]:
    """Options and their values, as text: ``--name value``, ``--name=value``, ``--flag``, ``--no-flag``.

    Raises
    ------
    UsageError
        If an argument is neither; the message names the nearest option of the command.
    """
    typed: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("-"):
            raise UsageError(f"unexpected argument {word!r}; give one problem, and its options with their names")
        if not word.startswith("--") or not _NAME.fullmatch(name):
            raise UsageError(f"there is no option {word}{_did_you_mean(word, ctx)}")
        if not equals and rest and not _BEGINS_AN_OPTION.match(rest[0]):
            value = rest.pop(0)
        # The last one counts, also among a flag and its negation.
        typed.pop(name, None)
        typed[name] = value
    return typed


@contextlib.contextmanager
def explain_unknown_options(ctx: typer.Context) -> Iterator[None]:
    """Add the nearest options of the command to an error about an unknown option of the problem.

    Raises
    ------
    UsageError
        Instead of an UnknownOption.
    """
    try:
        yield
    except UnknownOption as error:
        option = f"--{error.option.replace('_', '-')}"
        raise UsageError(f"there is no option {option}{_did_you_mean(option, ctx)}: {error}") from error
    except SystemExit as ended:
        # A worker's trainer has listed the options of the problem, but not those of the command.
        slips = [word for word in ctx.args if ended.code == ProblemError.exit_code and word.startswith("--")]
        for slip, hint in ((slip, _did_you_mean(slip, ctx)) for slip in slips):
            if hint:
                typer.echo(f"this command has no option {slip.partition('=')[0]}{hint}", err=True)
        raise


def _did_you_mean(word: str, ctx: typer.Context) -> str:
    shown = [parameter for parameter in ctx.command.params if not getattr(parameter, "hidden", False)]
    own = [option for parameter in shown for option in (*parameter.opts, *parameter.secondary_opts)]
    # Compared without their dashes, which would make any two options alike.
    options = {option.lstrip("-"): option for option in own if option.startswith("-")}
    # Here: most commands end without an error.
    from hpbandster_lite.settings.options import OPTIONS

    flag = word.partition("=")[0]
    elsewhere = next((each for each in OPTIONS.values() if each.flag == flag), None)
    if elsewhere is not None and not elsewhere.has_flag:
        return f" (it is the key {elsewhere.key} of a search file, under [{elsewhere.group.table}])"
    if elsewhere is not None and elsewhere.in_api and flag not in own:
        return f" (the command run has it, {ctx.info_name} has not)"
    near = [options[name] for name in nearest_names(flag.lstrip("-"), options)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""
