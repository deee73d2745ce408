"""Options that several commands share, each described once.

Law of this file: an option's name, help and parsing live here; what a value means is checked by
:mod:`hpbandster_lite.settings`, so that the Python interface refuses the same things with the same words.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import Limits, Value
from hpbandster_lite.settings import ALGORITHMS, BRACKET_RULES, SearchOptions, read_initial

BUDGETS = "Budgets and brackets"
SEARCH = "Search"
LIMITS = "When to stop (none given: one Hyperband cycle, or what the problem names)"
SERVICE = "Service"

Problem = Annotated[
    str,
    typer.Argument(
        help="The problem: a shipped name ([b]digits[/], counting_ones, hartmann6), [b]module:attribute[/], or "
        "[b]path/to/file.py:attribute[/].",
        show_default=False,
    ),
]
RunDir = Annotated[
    Path | None,
    typer.Option(
        "--run-dir", help="Where everything about this search is kept. Default: runs/PROBLEM.", show_default=False
    ),
]
Run = Annotated[Path, typer.Argument(help="The run directory, for example runs/digits.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
NameServer = Annotated[
    str | None,
    typer.Option(
        "--nameserver",
        metavar="HOST:PORT",
        envvar="HPBANDSTER_LITE_NAMESERVER",
        help="A Pyro4 name server that runs already (see [b]hpbandster-lite nameserver[/]).",
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
Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; beyond loopback a key is needed.", rich_help_panel=SERVICE)
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.", rich_help_panel=SERVICE)
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="CPU threads of one worker. Default: its share of the cores.", show_default=False
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="End an evaluation that runs longer; it counts as a bad result of class time_limit.",
        show_default=False,
    ),
]
InAgent = Annotated[
    bool,
    typer.Option("--in-agent", help="Evaluate inside the agent, without a trainer process: for cheap functions only."),
]
KeepCheckpoints = Annotated[
    str,
    typer.Option(
        "--keep-checkpoints",
        help="[b]needed[/]: delete the checkpoints of configurations that are out; [b]all[/]: keep every one.",
    ),
]

_SEARCH_OPTIONS: dict[str, tuple[Any, Any]] = {
    "min_budget": (
        Annotated[float | None, typer.Option(help="Smallest budget of one evaluation.", rich_help_panel=BUDGETS)],
        None,
    ),
    "max_budget": (
        Annotated[float | None, typer.Option(help="Largest budget of one evaluation.", rich_help_panel=BUDGETS)],
        None,
    ),
    "eta": (
        Annotated[
            float | None,
            typer.Option(
                help="Keep one in eta configurations from rung to rung; above 1. [default: 3]", rich_help_panel=BUDGETS
            ),
        ],
        None,
    ),
    "budgets": (
        Annotated[
            str | None,
            typer.Option(
                metavar="B1,B2,...",
                help="The budgets themselves, increasing, instead of a ladder.",
                rich_help_panel=BUDGETS,
            ),
        ],
        None,
    ),
    "unit": (
        Annotated[
            str | None,
            typer.Option(help="What a budget counts, for display: epochs, seconds, ...", rich_help_panel=BUDGETS),
        ],
        None,
    ),
    "bracket_rule": (
        Annotated[
            str | None,
            typer.Option(
                help="Bracket sizes: [b]floor[/] (HpBandSter's and the paper's run, the default) or [b]ceil[/] "
                "(Hyperband's Algorithm 1).",
                metavar="|".join(BRACKET_RULES),
                rich_help_panel=BUDGETS,
            ),
        ],
        None,
    ),
    "algorithm": (
        Annotated[
            str | None,
            typer.Option(
                metavar="|".join(ALGORITHMS),
                help="[b]bohb[/] (default): the model inside Hyperband; [b]hyperband[/]: random samples; [b]bo[/]: the "
                "model alone at the full budget; [b]random[/]: random search at the full budget.",
                rich_help_panel=SEARCH,
            ),
        ],
        None,
    ),
    "seed": (
        Annotated[
            int | None,
            typer.Option(
                help="Makes the search repeatable; drawn, printed and stored if left out.", rich_help_panel=SEARCH
            ),
        ],
        None,
    ),
    "initial": (
        Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="JSON list of configurations to evaluate first, after the default.",
                rich_help_panel=SEARCH,
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
                help="A parameter of the sampler; may be repeated.",
                rich_help_panel=SEARCH,
            ),
        ],
        None,
    ),
    "brackets": (Annotated[int | None, typer.Option(help="Number of brackets.", rich_help_panel=LIMITS)], None),
    "evaluations": (Annotated[int | None, typer.Option(help="Number of evaluations.", rich_help_panel=LIMITS)], None),
    "total_budget": (
        Annotated[float | None, typer.Option(help="Sum of the budgets of all evaluations.", rich_help_panel=LIMITS)],
        None,
    ),
    "max_time": (
        Annotated[
            str | None,
            typer.Option(
                metavar="TIME", help="Serving time of the search: 90 (seconds), 30m, 12h, 2d.", rich_help_panel=LIMITS
            ),
        ],
        None,
    ),
    "target_loss": (
        Annotated[
            float | None, typer.Option(help="Stop at this loss or lower at the largest budget.", rich_help_panel=LIMITS)
        ],
        None,
    ),
    "max_concurrent": (
        Annotated[int | None, typer.Option(help="Most evaluations at one time.", rich_help_panel=LIMITS)],
        None,
    ),
}


def takes_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of a search; it receives them as one ``options: SearchOptions``.

    The command's first parameter must be ``problem`` and its second ``options``.
    """
    own = inspect.signature(command).parameters
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def wrapper(problem: str, **arguments: Any) -> None:
        chosen = {name: arguments.pop(name) for name in _SEARCH_OPTIONS}
        command(problem, _search_options(problem, **chosen), **arguments)

    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SEARCH_OPTIONS.items()
    ]
    rest = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in own.items()
        if name not in ("problem", "options")
    ]
    first = own["problem"].replace(annotation=hints["problem"])
    parameters = [first, *rest, *shared]
    wrapper.__dict__["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _search_options(
    problem: str,
    *,
    budgets: str | None,
    initial: Path | None,
    set_: list[str] | None,
    max_time: str | None,
    **plain: Any,
) -> SearchOptions:
    limits = Limits(
        wall_time_s=None if max_time is None else seconds(max_time),
        **{
            name: plain.pop(name)
            for name in ("brackets", "evaluations", "total_budget", "target_loss", "max_concurrent")
        },
    )
    return SearchOptions(
        problem=problem,
        budgets=None if budgets is None else _numbers(budgets),
        initial=None if initial is None else read_initial(initial),
        sampler=dict(_assignment(text) for text in set_ or ()),
        limits=limits,
        **plain,
    )


def seconds(text: str) -> float:
    """Read a duration such as ``90``, ``30m``, ``1.5h`` or ``2d`` as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no duration; write 90 (seconds), 30m, 12h or 2d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


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


def address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``; an IPv6 host stands in brackets."""
    match = re.fullmatch(r"\[([0-9a-fA-F:]+)\]:(\d+)|([^:\s]+):(\d+)", text.strip())
    if match is None:
        raise UsageError(f"--nameserver {text!r}: write HOST:PORT, for example 127.0.0.1:9090")
    return match[1] or match[3], int(match[2] or match[4])
