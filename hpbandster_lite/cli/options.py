"""Options that several commands share, each described once.

Law of this file: an option's name, help and parsing live here; what a value means is checked by
:mod:`hpbandster_lite.settings`, so that the Python interface refuses the same things with the same words.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo

from hpbandster_lite.cli.problem_options import slips_answered, with_typed_options
from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems.options import text_of
from hpbandster_lite.process.environment import TLS_VARIABLE
from hpbandster_lite.records import Limits, Value
from hpbandster_lite.rundir import free_directory_like
from hpbandster_lite.samplers.registry import BUILT_IN
from hpbandster_lite.settings.prepare import BRACKET_RULES, SearchOptions, read_initial, seconds
from hpbandster_lite.settings.search_file import is_search_file, read_search_file

BUDGETS = "Budgets and brackets"
SEARCH = "How to search"
LIMITS = "When to stop (none given: what the problem names, else one Hyperband cycle)"
WORKERS = "Workers"
SERVICE = "Service"
JOBS = "Jobs of Slurm"
PANELS = (None, BUDGETS, SEARCH, LIMITS, WORKERS, SERVICE, JOBS)
"""The groups of options, in the order in which help shows them."""

Problem = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEM",
        help="What to search: a shipped problem ([b]digits[/], [b]counting_ones[/], [b]hartmann6[/]), a file "
        "([b]path/to/file.py[/]), a module ([b]package.module[/]), or an object in either ([b]file.py:problem[/]). "
        "A whole search in a file does as well ([b]search.toml[/]); options given beside it go before what it says. "
        "A problem may have options of its own, which follow it ([b]cifar10 --data-set mnist[/]): see "
        "[b]hpbandster-lite options PROBLEM[/].",
        show_default=False,
    ),
]
RunDir = Annotated[
    Path | None,
    typer.Option(
        "--run-dir",
        metavar="DIR",
        help="Where everything about this search is kept. [dim]\\[default: runs/PROBLEM][/]",
        show_default=False,
    ),
]
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run directory, for example [b]runs/digits[/].", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NameServer = Annotated[
    str | None,
    typer.Option(
        "--nameserver",
        metavar="HOST:PORT",
        envvar="HPBANDSTER_LITE_NAMESERVER",
        help="A name server that runs already (see [b]hpbandster-lite nameserver[/]).",
        rich_help_panel=SERVICE,
        show_default=False,
    ),
]
NameServerKey = Annotated[
    Path | None,
    typer.Option(
        "--nameserver-key",
        metavar="FILE",
        envvar="HPBANDSTER_LITE_NAMESERVER_KEY_FILE",
        help="File with the name server's key.",
        rich_help_panel=SERVICE,
        show_default=False,
    ),
]
RunKey = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        envvar="HPBANDSTER_LITE_KEY_FILE",
        help="File with the run's key, where --run-dir cannot be seen by all: the same secret for the master and its "
        "workers, or a copy of DIR/key. [dim]\\[default: DIR/key, which the master makes][/]",
        rich_help_panel=SERVICE,
        show_default=False,
    ),
]
RunId = Annotated[
    str | None,
    typer.Option(
        "--run-id",
        metavar="ID",
        envvar="HPBANDSTER_LITE_RUN_ID",
        help="Name of the run at the name server. [dim]\\[default: the problem's name and a random number, which "
        "status shows][/]",
        rich_help_panel=SERVICE,
        show_default=False,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="Address or name to listen on; [b]0.0.0.0[/] and [b]::[/] are all of this machine. Whoever reaches it "
        "still needs the key.",
        rich_help_panel=SERVICE,
    ),
]
Interface = Annotated[
    str | None,
    typer.Option(
        "--interface",
        metavar="NAME",
        help="Network interface to listen on, such as [b]ib0[/], in the place of --host.",
        rich_help_panel=SERVICE,
        show_default=False,
    ),
]
Tls = Annotated[
    Path | None,
    typer.Option(
        "--tls",
        metavar="DIR",
        envvar=TLS_VARIABLE,
        help="Speak TLS with the certificates in DIR (see [b]hpbandster-lite certs[/]). "
        "[dim]\\[default: the folder tls of the run directory, if there is one][/]",
        rich_help_panel=SERVICE,
        show_default=False,
    ),
]
Port = Annotated[
    int,
    typer.Option(
        "--port",
        metavar="PORT",
        help="Port to listen on; 0 takes a free one.",
        rich_help_panel=SERVICE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads of each worker. [dim]\\[default: its share of the cores][/]",
        rich_help_panel=WORKERS,
        show_default=False,
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="all|N|TOKENS",
        help="One worker for each of these GPUs, unless --workers says otherwise: [b]all[/] that are visible (at least "
        "one), the first [b]N[/], or some by the words of CUDA_VISIBLE_DEVICES, with commas between.",
        rich_help_panel=WORKERS,
        show_default=False,
    ),
]
GpusPerWorker = Annotated[
    int,
    typer.Option(
        "--gpus-per-worker",
        metavar="N",
        help="Give each evaluation N GPUs, and the variables with which its processes find each other. Without a GPU: "
        "N processes on the CPU.",
        rich_help_panel=WORKERS,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="End an evaluation that takes longer (90, 30m, 12h); it counts as a bad result. "
        "[dim]\\[default: never][/]",
        rich_help_panel=WORKERS,
        show_default=False,
    ),
]
InAgent = Annotated[
    bool,
    typer.Option(
        "--in-agent",
        help="Evaluate in the worker's first process, without a trainer of its own: only for functions that are cheap "
        "and do not crash. Those of milliseconds are leased and reported several at a time.",
        rich_help_panel=WORKERS,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Run again, once, what failed by a fault of the code that is mended now; only what no later decision was "
        "built on.",
    ),
]
KeepCheckpoints = Annotated[
    str,
    typer.Option(
        "--keep-checkpoints",
        metavar="needed|all",
        help="[b]needed[/] deletes the checkpoints of configurations that are out, [b]all[/] keeps every one.",
    ),
]


def _number(kind: Any, panel: str, text: str, metavar: str) -> tuple[Any, None]:
    """An option with a number of this kind, or none."""
    return Annotated[kind | None, typer.Option(metavar=metavar, help=text, rich_help_panel=panel)], None


def _text(panel: str, text: str, metavar: str) -> tuple[Any, None]:
    return Annotated[str | None, typer.Option(metavar=metavar, help=text, rich_help_panel=panel)], None


_SEARCH_OPTIONS: dict[str, tuple[Any, Any]] = {
    "min_budget": _number(float, BUDGETS, "Smallest budget of one evaluation.", "BUDGET"),
    "max_budget": _number(float, BUDGETS, "Largest budget of one evaluation.", "BUDGET"),
    "eta": _number(
        float,
        BUDGETS,
        "From rung to rung one configuration in ETA goes on, with ETA times the budget; above 1. "
        "[dim]\\[default: the problem's, else 3][/]",
        "ETA",
    ),
    "budgets": _text(
        BUDGETS,
        "The budgets themselves, increasing, instead of --min-budget and --max-budget.",
        "B1,B2,...",
    ),
    "unit": _text(BUDGETS, "What a budget counts, for display: epochs, seconds, ...", "WORD"),
    "bracket_rule": _text(
        BUDGETS,
        "With how many configurations a bracket begins: [b]floor[/] as in the BOHB paper's runs and HpBandSter, "
        "[b]ceil[/] as in Hyperband's Algorithm 1. [dim]\\[default: floor][/]",
        "|".join(BRACKET_RULES),
    ),
    "algorithm": _text(
        SEARCH,
        "; ".join(f"[b]{name}[/]: {algorithm.help}" for name, algorithm in BUILT_IN.items())
        + ". [dim]\\[default: bohb][/]",
        "|".join(BUILT_IN),
    ),
    "seed": _number(
        int,
        SEARCH,
        "Makes the search repeatable. [dim]\\[default: drawn, printed and kept][/]",
        "N",
    ),
    "initial": (
        Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="Configurations to evaluate first, after the default one: a JSON list of objects such as "
                '\\[{"lr": 0.1, "depth": 3}].',
                rich_help_panel=SEARCH,
            ),
        ],
        None,
    ),
    "skip_default": (
        Annotated[
            bool | None,
            typer.Option(
                "--skip-default",
                help="Begin without the default configuration: to compare ways to search, which all find it otherwise.",
                rich_help_panel=SEARCH,
                show_default=False,
            ),
        ],
        None,
    ),
    "set_": (
        Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="NAME=VALUE",
                help="A parameter of the algorithm, for example random_fraction=0.2; may be given more than once.",
                rich_help_panel=SEARCH,
            ),
        ],
        None,
    ),
    "brackets": _number(int, LIMITS, "Number of brackets.", "N"),
    "evaluations": _number(int, LIMITS, "Number of evaluations.", "N"),
    "total_budget": _number(float, LIMITS, "Sum of the budgets of all evaluations.", "BUDGET"),
    "max_time": _text(LIMITS, "Time in which the search is served: 90 (seconds), 30m, 12h, 2d.", "TIME"),
    "target_loss": _number(float, LIMITS, "Stop once a loss at the largest budget is this low.", "LOSS"),
    "max_concurrent": _number(int, WORKERS, "Most evaluations at one time, however many workers there are.", "N"),
}


def takes_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of a search; it receives them as one ``options: SearchOptions``.

    The command's first parameter must be ``problem`` and its second ``options``; one that takes ``ctx`` is given it.
    """
    # Not get_type_hints: before Python 3.11 it puts Optional around what has the default None, and so hides its option.
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def wrapper(problem: str, ctx: typer.Context, **arguments: Any) -> None:
        chosen = _given(**{name: arguments.pop(name) for name in _SEARCH_OPTIONS})
        if is_search_file(problem):
            told = read_search_file(Path(problem))
            problem, chosen = told.problem, overridden(told.search, chosen)
            _fill(arguments, told.command, ctx)
        problem = with_typed_options(problem, ctx)
        if "ctx" in own:
            arguments["ctx"] = ctx
        with slips_answered(ctx):
            command(problem, _search_options(problem, chosen), **arguments)

    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SEARCH_OPTIONS.items()
    ]
    rest = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.items()
        if name not in ("problem", "options", "ctx")
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [own["problem"], *sorted([*rest, *shared], key=_panel_number), context]
    wrapper.__dict__["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def typed_search_options(ctx: typer.Context) -> list[str]:
    """The options of a search, and of its problem, as they were typed: for a command that passes them on."""
    words = []
    for parameter in ctx.command.params:
        name = str(parameter.name)
        source = ctx.get_parameter_source(name) if name in _SEARCH_OPTIONS else None
        if source is not None and source.name == "COMMANDLINE":
            value = ctx.params[name]
            told = value if isinstance(value, list | tuple) else [value]
            option = parameter.opts[0]
            words += [option if each is True else f"{option}={text_of(each)}" for each in told]
    return [*words, *ctx.args]


def takes_search_file(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that searches nothing itself take its options from a search file in the place of its problem.

    The command's first parameter must be ``problem``.
    """
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def wrapper(problem: str, ctx: typer.Context, **arguments: Any) -> None:
        if is_search_file(problem):
            told = read_search_file(Path(problem))
            problem = told.problem
            _fill(arguments, told.command, ctx)
        problem = with_typed_options(problem, ctx)
        with slips_answered(ctx):
            command(problem, **arguments)

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    first, *rest = own.values()
    parameters = [first, *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in rest), context]
    wrapper.__dict__["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _panel_number(parameter: inspect.Parameter) -> int:
    """Where help shows an option: its group's place; within a group the order stays."""
    panels = [told.rich_help_panel for told in get_args(parameter.annotation) if isinstance(told, OptionInfo)]
    return PANELS.index(panels[0] if panels else None)


def _given(
    *, budgets: str | None, initial: Path | None, set_: list[str] | None, max_time: str | None, **plain: Any
) -> dict[str, Any]:
    """What was given on the command line, by the names of the fields of SearchOptions and of Limits."""
    read = {
        "budgets": None if budgets is None else _numbers(budgets),
        "initial": None if initial is None else read_initial(initial),
        "sampler": dict(_assignment(text) for text in set_) if set_ else None,
        "wall_time_s": None if max_time is None else seconds("--max-time", max_time),
    }
    return {name: value for name, value in {**plain, **read}.items() if value is not None}


def overridden(told: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says, with what the command line says in its stead.

    Parameters of the sampler go one by one; budgets that are given one way replace those of the file that are given the
    other way.
    """
    kept = dict(told)
    if "budgets" in given:
        kept = {name: value for name, value in kept.items() if name not in ("min_budget", "max_budget")}
    elif "min_budget" in given or "max_budget" in given:
        kept.pop("budgets", None)
    return {**kept, **given, "sampler": {**told.get("sampler", {}), **given.get("sampler", {})}}


def _fill(arguments: dict[str, Any], told: Mapping[str, Any], ctx: typer.Context) -> None:
    """Give a command what a file says of its own options, where neither command line nor environment does."""
    for name, value in told.items():
        source = ctx.get_parameter_source(name) if name in arguments else None
        if source is not None and source.name == "DEFAULT":
            arguments[name] = value
    if arguments.get("new") and arguments.get("run_dir") == told.get("run_dir", ""):
        arguments["run_dir"], arguments["new"] = free_directory_like(told["run_dir"]), False


def _search_options(problem: str, chosen: Mapping[str, Any]) -> SearchOptions:
    limits = {field.name for field in fields(Limits)}
    return SearchOptions(
        problem=problem,
        limits=Limits(**{name: value for name, value in chosen.items() if name in limits}),
        **{name: value for name, value in chosen.items() if name not in limits},
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--budgets {text!r}: {error}; write numbers such as 1,3,9") from error


def _assignment(text: str) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r} is no assignment; write NAME=VALUE, for example --set random_fraction=0.2")
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    if isinstance(read, list | dict):
        raise UsageError(f"--set {text!r}: give one number or word")
    return name.strip(), read
