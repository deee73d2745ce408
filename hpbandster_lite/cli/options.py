"""The command line's side of the table of options.

Law of this file: :mod:`hpbandster_lite.settings.options` declares the options; this file makes options of typer from
its table. A command that takes a record of options as a parameter has all options of the record, and gets the record.
Options of a single command are declared with it. The command line takes precedence over environment variables, and
these over a search file.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo

from hpbandster_lite.cli.problem_options import explain_unknown_options, with_typed_options
from hpbandster_lite.errors import BudgetError, SearchFileError, SpaceError, UsageError
from hpbandster_lite.problems.options import text_of
from hpbandster_lite.process.log_format import use_log_format, write_line
from hpbandster_lite.rundir import free_directory_like, named_run_directory
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.option_words import for_search_file
from hpbandster_lite.settings.options import (
    OPTIONS,
    Group,
    LimitOptions,
    OldName,
    Option,
    SearchOptions,
    check_value,
    options_of,
    search_options,
)
from hpbandster_lite.settings.search_file import is_search_file, read_search_file

JOBS = "Jobs of Slurm"
PANELS = (None, *(group.title for group in Group if group is not Group.GENERAL), JOBS)
"""The groups of options, in the order in which help shows them."""
_OLD = "old_"
"""Prefix of the parameter of an old flag."""

Problem = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEM",
        help="What to search: a shipped problem ([b]digits[/], [b]counting_ones[/], [b]hartmann6[/]), a file "
        "([b]path/to/file.py[/]), a module ([b]package.module[/]), or an object in either ([b]file.py:problem[/]). "
        "Or a search file ([b]search.toml[/]); options on the command line take precedence over it. "
        "The options of a problem follow it ([b]cifar10 --data-set mnist[/]): see "
        "[b]hpbandster-lite options PROBLEM[/].",
        show_default=False,
    ),
]


def path(text: str | Path) -> Path:
    """Parse a path; the empty text of a variable that is not set would name the current directory."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty; give a path, such as . for the current directory")
    return Path(text)


def find_run(given: Path | None) -> Path | None:
    """The run directory that an argument names: ``digits`` also finds ``runs/digits``."""
    return None if given is None else named_run_directory(given)


Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        parser=path,
        callback=find_run,
        help="The run directory: [b]runs/digits[/], or its name, [b]digits[/].",
        show_default=False,
    ),
]


def whole_number(text: str | int) -> int:
    """Parse a whole number of the command line, where ``1e1`` is 10 as in a search file and in Python."""
    try:
        return kinds.whole_number(text)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error


def any_number(text: str | float) -> float:
    """Parse a number of the command line."""
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a number; write one such as 27 or 0.5") from error


_PARSERS: Mapping[type, Callable[[Any], Any]] = {int: whole_number, float: any_number}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Force = Annotated[bool, typer.Option("--force", help="Also replace files that this command did not create.")]


# --------------------------------------------------------------------------------------------- what a command declares


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the records that it takes as parameters.

    A command with a parameter ``problem`` also takes a search file in the place of the problem, and the problem's own
    options behind it. A command with a parameter ``ctx`` gets typer's context.
    """
    # Not get_type_hints: before Python 3.11 it puts Optional around what has the default None, and so hides its option.
    own = inspect.signature(command, eval_str=True).parameters
    records = {name: each.annotation for name, each in own.items() if _is_record(each.annotation)}
    wanted = options_of(*records.values(), *([LimitOptions] if SearchOptions in records.values() else []))
    options = {name: wanted[name] for name in OPTIONS if name in wanted}

    @functools.wraps(command)
    def wrapper(ctx: typer.Context, **arguments: Any) -> None:
        _use_log_format(options, arguments)
        values = _given(options, arguments)
        given, problem = values, arguments.get("problem")
        if problem is not None:
            problem, values = _from_search_file(problem, values, arguments, ctx)
            arguments["problem"] = problem = with_typed_options(problem, ctx)
        if "ctx" in own:
            arguments["ctx"] = ctx
        with explain_unknown_options(ctx), _named_as_in_file(str(ctx.params.get("problem")), values.keys() - given):
            for name, record_type in records.items():
                arguments[name] = _record(record_type, problem, values)
            command(**arguments)

    rest = [each for name, each in own.items() if name not in {*records, "problem", "ctx"}]
    sorted_rest = sorted([*_parameters(options), *rest], key=_panel_number)
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    first = [own["problem"]] if "problem" in own else []
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*first, *sorted_rest)]
    wrapper.__dict__["__signature__"] = inspect.Signature([*parameters, context])
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, context]}
    return wrapper


def _is_record(annotation: Any) -> bool:
    return is_dataclass(annotation) and isinstance(annotation, type) and bool(options_of(annotation))


def _parameters(options: Mapping[str, Option]) -> list[inspect.Parameter]:
    """Parameters of typer for options and, hidden, for their old flags; each is None where it is not given."""
    found = []
    for option in options.values():
        if option.has_flag:
            found.append(_parameter(option.name, _annotation(option)))
            found += [_parameter(_old_parameter(old), _old_annotation(option, old)) for old in option.old if old.flag]
    return found


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _old_parameter(old: OldName) -> str:
    return f"{_OLD}{old.flag.strip('-').replace('-', '_')}"


def _annotation(option: Option) -> Any:
    flags = [option.flag, *([option.short] if option.short else [])]
    about = typer.Option(
        *flags,
        metavar=None if option.kind is kinds.FLAG else option.metavar or "|".join(option.accepted),
        envvar=option.variable,
        help=_help(option),
        rich_help_panel=None if option.group is Group.GENERAL else option.group.title,
        show_default=False,
        parser=_PARSERS.get(option.kind.typed),
    )
    return Annotated[_typed(option.kind.typed), about]


def _old_annotation(option: Option, old: OldName) -> Any:
    typed = bool if old.means is not None else option.kind.typed
    return Annotated[_typed(typed), typer.Option(old.flag, hidden=True, help=f"Old name of {option.flag}.")]


def _typed(kind: type) -> Any:
    return (list[str] if kind is list else kind) | None


def _help(option: Option) -> str:
    otherwise = option.otherwise or ("" if option.default in (None, False) else str(option.default))
    default = f" [dim]\\[default: {_marked_up(otherwise)}][/]" if otherwise else ""
    hint = f" {option.kind.typed_hint}" if option.kind.typed_hint else ""
    return _marked_up(option.help) + hint + default


def _marked_up(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"[b]\1[/]", text.replace("[", r"\["))


def _panel_number(parameter: inspect.Parameter) -> int:
    """Where help shows an option: its group's place; within a group the order stays."""
    panels = [about.rich_help_panel for about in get_args(parameter.annotation) if isinstance(about, OptionInfo)]
    return PANELS.index(panels[0] if panels else None)


# ------------------------------------------------------------------------------------------------- what a command gets


def _given(options: Mapping[str, Option], arguments: dict[str, Any]) -> dict[str, Any]:
    """The values of the options that were given, which are taken out of the arguments."""
    values = {}
    for option in options.values():
        if not option.has_flag:
            continue
        value = arguments.pop(option.name)
        if value is not None and value != []:
            values[option.name] = option.kind.read(option.flag, value)
        for old in option.old:
            value = arguments.pop(_old_parameter(old)) if old.flag else None
            if value is None or value == []:
                continue
            if option.name in values:
                both = f"{old.flag} is the old name of {option.flag}, and both are given"
                raise UsageError(f"{both}; leave {old.flag} out")
            values[option.name] = option.kind.read(old.flag, value) if old.means is None else old.means[value]
            now = option.flag if old.means is None else f"{option.flag} {values[option.name]}"
            note(f"{old.flag} is now {now}; the old name works for one more release")
    return values


def note(text: str) -> None:
    """Print a line that programs do not read."""
    write_line(f"note: {text}")


def _use_log_format(options: Mapping[str, Option], arguments: Mapping[str, Any]) -> None:
    """Use the given format before anything else is read, because that may write notes."""
    given = arguments.get("log_format")
    if "log_format" in options and given is not None:
        check_value(options["log_format"], given)
        use_log_format(given)


def _from_search_file(
    problem: str, values: dict[str, Any], arguments: dict[str, Any], ctx: typer.Context
) -> tuple[str, dict[str, Any]]:
    """The problem and the values of options, with those of a search file where the problem is the name of one."""
    if not is_search_file(problem):
        return problem, values
    file = read_search_file(Path(problem))
    for text in file.notes:
        note(f"{problem}: {text}")
    for name, value in file.values.items():
        # The command itself has an option with the name of one in the table.
        source = ctx.get_parameter_source(name) if name in arguments else None
        if source is not None and source.name == "DEFAULT":
            arguments[name] = value
    merged = overridden(file.values, values)
    if values.get("new") and "run_dir" not in values and "run_dir" in file.values:
        merged |= {"run_dir": str(free_directory_like(Path(file.values["run_dir"]))), "new": False}
    return file.problem, merged


@contextlib.contextmanager
def _named_as_in_file(file: str, names: Collection[str]) -> Iterator[None]:
    """Name these options, whose values are from a search file, as the file does, in an error about them."""
    try:
        yield
    except (UsageError, SpaceError) as error:
        text = str(error)
        if isinstance(error, SpaceError) and "initial" in names and text.startswith("initial: "):
            raise SpaceError(f"{file}: [search] {text}") from error
        shown = for_search_file(text, names) if type(error) in (UsageError, BudgetError) else None
        if shown is None:
            raise
        raise SearchFileError(f"{file}: {shown}") from error


def overridden(in_file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a file, overridden by those of the command line.

    Parameters of the sampler are replaced one by one; a list of budgets replaces the smallest and the largest of the
    file, and these replace a list.
    """
    kept = dict(in_file)
    if "budgets" in given:
        kept = {name: value for name, value in kept.items() if name not in ("min_budget", "max_budget")}
    elif "min_budget" in given or "max_budget" in given:
        kept.pop("budgets", None)
    return {**kept, **given, "sampler": {**in_file.get("sampler", {}), **given.get("sampler", {})}}


def _record(record_type: Any, problem: str | None, values: Mapping[str, Any]) -> Any:
    if record_type is SearchOptions:
        return search_options(str(problem), values)
    return record_type(**{name: values[name] for name in options_of(record_type) if name in values})


def typed_search_options(ctx: typer.Context) -> list[str]:
    """The options of a search, and of its problem, as they were typed: for a command that passes them on."""
    options = options_of(SearchOptions, LimitOptions)
    flags = {name: option.flag for name, option in options.items()}
    flags |= {_old_parameter(old): option.flag for option in options.values() for old in option.old}
    words = []
    for parameter in ctx.command.params:
        name = str(parameter.name)
        source = ctx.get_parameter_source(name) if name in flags else None
        if source is not None and source.name == "COMMANDLINE":
            value = ctx.params[name]
            values = value if isinstance(value, list | tuple) else [value]
            words += [flags[name] if each is True else f"{flags[name]}={text_of(each)}" for each in values]
    return [*words, *ctx.args]
