"""The table of options: each option of a search and of its processes is declared here, once.

Law of this file: a field of a record below *is* the declaration of an option, with its name, type, default, kind,
group, help and old names. Derived from it are: the flag on the command line (:mod:`hpbandster_lite.cli.options`), the
key in a search file and its check (:mod:`.search_file`), the JSON schema for editors (:mod:`.schema`), the checks of
:func:`hpbandster_lite.minimize` and its documentation, and what a launcher hands on to its processes
(:func:`in_common`). A command has the options of the records that it takes as parameters.

The flag and the key are the field's name; a duration loses its ``_s``, because text with a unit is accepted there. To
add an option: declare it here, and read the field where it acts.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.environment import LOG_FORMAT_VARIABLE, TLS_VARIABLE
from hpbandster_lite.process.log_format import FORMATS, TEXT
from hpbandster_lite.records import Limits, ProblemDescription, Value, Values
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.registry import BUILT_IN, algorithm_names
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.kinds import Kind

BRACKET_RULES = ("floor", "ceil")
ISOLATIONS = ("trainer", "none")
CHECKPOINTS = ("needed", "all", "best:N")
LOOPBACK = "127.0.0.1"
SAMPLER = "sampler"
"""The table of a search file that has the sampler's parameters, whose names and types the sampler knows."""
PROBLEM_OPTIONS = "options"
"""The table of a search file that has the problem's options, whose names and types the problem knows."""
FREE_TABLES = (SAMPLER, PROBLEM_OPTIONS)
_OPTION = "option"


class Group(enum.Enum):
    """A group of options: its title in help, and its table in a search file (empty for the top of the file)."""

    GENERAL = ("Options", "")
    BUDGETS = ("Budgets and brackets", "budgets")
    SEARCH = ("How to search", "search")
    LIMITS = ("When to stop (default: the problem's brackets, else one Hyperband cycle)", "limits")
    WORKERS = ("Workers", "workers")
    SERVICE = ("Service", "service")

    @property
    def title(self) -> str:
        """The heading of the group in help."""
        return self.value[0]

    @property
    def table(self) -> str:
        """Table of a search file that has the group's keys."""
        return self.value[1]


@record(frozen=True, slots=True, kw_only=True)
class OldName:
    """A name that still works, with a warning, for one release.

    ``flag`` was its name on the command line, ``key`` in a search file. ``means`` maps each state of an old switch to a
    value of the option that replaced it.
    """

    flag: str = ""
    key: str = ""
    means: Mapping[bool, Any] | None = None


@record(frozen=True, slots=True, kw_only=True)
class Option:
    """Everything about an option that its type does not say.

    Parameters
    ----------
    name, default
        Of the field. If the default is ``None``, ``otherwise`` describes the behaviour, unless ``new_search`` gives a
        value.
    kind
        How values are written.
    group
        Its place in help and in a search file.
    help
        One to three sentences; flags are in backquotes.
    metavar, example
        The value in help, and a value in TOML.
    new_search
        Value of a new search where neither you nor the problem gives one; a search that continues keeps its own.
    choices, above, at_least
        Accepted values.
    all_choices
        A function that gives ``choices`` and those that installed packages add; it takes 15 ms.
    variable, short
        Environment variable and one-letter flag.
    has_flag, has_key, in_api
        Whether it is on the command line, in a search file, and a parameter of ``minimize``.
    old
        Earlier names.
    """

    name: str = ""
    default: Any = None
    kind: Kind
    group: Group
    help: str
    metavar: str = ""
    example: str = ""
    otherwise: str = ""
    new_search: Any = None
    choices: Sequence[str] = ()
    all_choices: Callable[[], Sequence[str]] | None = None
    above: float | None = None
    at_least: int | None = None
    variable: str | None = None
    short: str | None = None
    has_flag: bool = True
    has_key: bool = True
    in_api: bool = False
    old: tuple[OldName, ...] = ()

    @property
    def key(self) -> str:
        """Its name in a search file."""
        return self.name.removesuffix("_s") if self.kind in kinds.DURATIONS else self.name

    @property
    def accepted(self) -> Sequence[str]:
        """The names that it accepts; empty where its values are not names."""
        return self.choices if self.all_choices is None else self.all_choices()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.key.replace('_', '-')}"


def option(default: Any = None, **about: Any) -> Any:
    """A field of a record that is an option; ``about`` are the parameters of :class:`Option`."""
    return field(default=default, metadata={_OPTION: about})


def option_of(declared: Field[Any]) -> Option | None:
    """The option that a field declares; None for a field that is not an option."""
    about = declared.metadata.get(_OPTION)
    default = None if declared.default is MISSING else declared.default
    return None if about is None else Option(name=declared.name, default=default, **{**_otherwise(about), **about})


def _otherwise(about: Mapping[str, Any]) -> dict[str, str]:
    """The value of a new search in words, for help."""
    value = about.get("new_search")
    if value is None:
        return {}
    text = value if isinstance(value, str) else f"{value:g}"
    return {"otherwise": f"{text}s" if about["kind"] in kinds.DURATIONS else text}


def options_of(*record_types: type) -> dict[str, Option]:
    """The options of records by name, in the order of their declaration."""
    found = (option_of(declared) for each in record_types for declared in fields(each))
    return {each.name: each for each in found if each is not None}


# ------------------------------------------------------------------------------------------------ what defines a search


@record(frozen=True, kw_only=True)
class SearchOptions:
    """What defines a search; ``None`` takes the journal's value, the problem's default or ours, in this order.

    ``limits`` replaces the limits of an earlier start as a whole, where it sets any; ``more`` has amounts to add to
    limits of the search (:mod:`hpbandster_lite.engine.extension`). ``description`` spares the child
    process that would describe the problem; ``run_id`` names a new run; ``arguments`` is ``sys.argv`` of the script
    that calls ``minimize``, empty where there is no script: a child process then reads the source. ``only_minimize``:
    the problem is a function, whose space only a call of ``minimize`` has, or an object that only that process has.
    """

    problem: str
    min_budget: float | None = option(
        kind=kinds.NUMBER, group=Group.BUDGETS, metavar="BUDGET", example="1", in_api=True,
        help="Smallest budget of one evaluation.", otherwise="the problem's",
    )  # fmt: skip
    max_budget: float | None = option(
        kind=kinds.NUMBER, group=Group.BUDGETS, metavar="BUDGET", example="27", in_api=True,
        help="Largest budget of one evaluation.", otherwise="the problem's",
    )  # fmt: skip
    eta: float | None = option(
        kind=kinds.NUMBER, group=Group.BUDGETS, metavar="ETA", example="3", in_api=True,
        help="Each rung promotes one configuration in ETA, with ETA times the budget. Above 1.",
        otherwise="the problem's, else 3", new_search=3.0,
    )  # fmt: skip
    budgets: tuple[float, ...] | None = option(
        kind=kinds.NUMBERS, group=Group.BUDGETS, metavar="B1,B2,...", example="[1, 3, 9]", in_api=True,
        help="Increasing list of the budgets, instead of `--min-budget` and `--max-budget`.",
    )  # fmt: skip
    integer_budgets: bool | None = option(
        kind=kinds.FLAG, group=Group.BUDGETS, example="true", in_api=True,
        help="Budgets are whole numbers: those between the smallest and the largest are rounded, and the objective "
        "gets an int.", otherwise="as the problem says",
    )  # fmt: skip
    unit: str | None = option(
        kind=kinds.TEXT, group=Group.BUDGETS, metavar="WORD", example='"epochs"', in_api=True,
        help="Unit of budgets, for display: epochs, seconds, ...", otherwise="the problem's",
    )  # fmt: skip
    bracket_rule: str | None = option(
        kind=kinds.TEXT, group=Group.BUDGETS, example='"floor"', choices=BRACKET_RULES, new_search="floor", in_api=True,
        help="Number of configurations with which a bracket begins: `floor` as in the BOHB paper's runs and "
        "HpBandSter, `ceil` as in Hyperband's Algorithm 1.",
    )  # fmt: skip
    maximize: bool | None = option(
        kind=kinds.FLAG, group=Group.SEARCH, example="true", in_api=True,
        help="The objective returns and reports what is to be large, such as an accuracy; everything that you read has "
        "its sign.", otherwise="as the problem says, else the lowest loss is searched for",
    )  # fmt: skip
    algorithm: str | None = option(
        kind=kinds.TEXT, group=Group.SEARCH, example='"bohb"', new_search="bohb", in_api=True,
        metavar="|".join(BUILT_IN), choices=tuple(BUILT_IN), all_choices=algorithm_names,
        help="; ".join(f"`{name}`: {algorithm.help}" for name, algorithm in BUILT_IN.items()) + ".",
    )  # fmt: skip
    seed: int | None = option(
        kind=kinds.WHOLE, group=Group.SEARCH, metavar="N", example="7", in_api=True,
        help="Makes the search repeatable, with one worker.", otherwise="a random number, which is printed and stored",
    )  # fmt: skip
    initial: tuple[Values, ...] | None = option(
        kind=kinds.CONFIGURATIONS, group=Group.SEARCH, metavar="FILE", example="[{lr = 0.1}]", in_api=True,
        help="Configurations to evaluate first, after the default one: a list of objects such as "
        '[{"lr": 0.1, "depth": 3}], one such object, rows of a table of `Result`, or a file of them: JSON, JSON lines '
        "or CSV. What is left out is as in the default configuration, or sampled.",
    )  # fmt: skip
    skip_default: bool | None = option(
        kind=kinds.FLAG, group=Group.SEARCH, example="true", in_api=True,
        help="Do not evaluate the default configuration first: for comparisons of algorithms, which all evaluate it.",
    )  # fmt: skip
    sampler: Mapping[str, Value] = field(
        default_factory=dict,
        metadata={_OPTION: {
            "kind": kinds.PARAMETERS, "group": Group.SEARCH, "metavar": "NAME=VALUE", "in_api": True,
            "example": "{random_fraction = 0.2}", "old": (OldName(flag="--set", key="parameters"),),
            "help": "Parameters of the algorithm's sampler by name, for example random_fraction=0.2.",
        }},
    )  # fmt: skip
    max_attempts: int | None = option(
        kind=kinds.WHOLE, group=Group.SERVICE, example="3", new_search=3, at_least=1, has_flag=False,
        help="Number of attempts of an evaluation whose worker or trainer dies.",
    )  # fmt: skip
    lease_s: float | None = option(
        kind=kinds.DURATION, group=Group.SERVICE, example="60", new_search=60.0, has_flag=False,
        help="An evaluation goes to another worker after this time without a heartbeat.",
        old=(OldName(key="lease_s"),),
    )  # fmt: skip
    heartbeat_s: float | None = option(
        kind=kinds.DURATION, group=Group.SERVICE, example="5", new_search=5.0, has_flag=False,
        help="Time between two heartbeats of a worker; at most half of the lease.",
        old=(OldName(key="heartbeat_s"),),
    )  # fmt: skip
    retry_failed: bool = option(
        default=False, kind=kinds.FLAG, group=Group.GENERAL, has_key=False, in_api=True,
        help="After you corrected the code: run evaluations that failed because of it once more, unless a later "
        "decision depends on them.",
    )  # fmt: skip
    accept_edited_source: bool = option(
        default=False, kind=kinds.FLAG, group=Group.SEARCH, has_key=False, in_api=True,
        help="Continue a search although the source of its problem was edited. You assert that the losses before and "
        "after the edit are comparable; `status` shows the first evaluation with the edited source.",
    )  # fmt: skip
    restored: bool = option(
        default=False, kind=kinds.FLAG, group=Group.SEARCH, has_key=False, in_api=True,
        help="You put a copy of the journal in its place: workers that have seen later masters take work again, "
        "results of evaluations that the copy has not leased are not recorded, and new attempts get new directories. "
        "Refused while a master serves the run directory.",
    )  # fmt: skip
    keep_going: bool = option(
        default=False, kind=kinds.FLAG, group=Group.LIMITS, example="true", in_api=True,
        help="Do not stop if all evaluations fail with the same fault: for a space with many invalid configurations.",
    )  # fmt: skip
    description: ProblemDescription | None = None
    only_minimize: bool = False
    arguments: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    more: Mapping[str, float] = field(default_factory=dict)
    run_id: str | None = None


@record(frozen=True, kw_only=True)
class LimitOptions:
    """When a search stops, as you give it; :class:`~hpbandster_lite.records.Limits` has the same fields.

    A text such as ``+50`` is an amount to add to what the search has; :func:`split_limits` separates these.
    """

    brackets: int | str | None = option(
        kind=kinds.WHOLE_OR_MORE, group=Group.LIMITS, metavar="N|+N", example="5", in_api=True,
        help="Number of brackets. `+N` (in quotes in Python and in a search file): N more, once the search has reached "
        "its limit; before, it changes nothing. The journal stores the new limit, so the same command keeps it until "
        "it is reached. Without such a limit: N more than were started.",
    )  # fmt: skip
    evaluations: int | str | None = option(
        kind=kinds.WHOLE_OR_MORE, group=Group.LIMITS, metavar="N|+N", example="100", in_api=True,
        help="Number of evaluations, or `+N` more.",
    )  # fmt: skip
    total_budget: float | str | None = option(
        kind=kinds.NUMBER_OR_MORE, group=Group.LIMITS, metavar="BUDGET|+BUDGET", example="1000", in_api=True,
        help="Sum of the budgets of all evaluations, or `+BUDGET` more.",
    )  # fmt: skip
    wall_time_s: float | str | None = option(
        kind=kinds.DURATION_OR_MORE, group=Group.LIMITS, metavar="TIME|+TIME", example='"12h"', in_api=True,
        help="Time for which a master serves the search, or `+TIME` more.",
        old=(OldName(flag="--max-time", key="max_time"),),
    )  # fmt: skip
    target_loss: float | None = option(
        kind=kinds.NUMBER, group=Group.LIMITS, metavar="LOSS", example="0.05", in_api=True,
        help="Stop when a loss at the largest budget is this low; with `--maximize`, when a value is this high.",
    )  # fmt: skip
    max_concurrent: int | None = option(
        kind=kinds.WHOLE, group=Group.WORKERS, metavar="N", example="8", in_api=True,
        help="Largest number of concurrent evaluations, even if there are more workers.",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class DirectoryOptions:
    """Where a search is kept."""

    run_dir: str | None = option(
        kind=kinds.DIRECTORY, group=Group.GENERAL, metavar="DIR", example='"runs/net"', in_api=True,
        help="Directory of the search, which holds everything about it.", otherwise="runs/PROBLEM",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class PlaceOptions(DirectoryOptions):
    """Where a search is kept, or that it is a new one."""

    new: bool = option(
        default=False, kind=kinds.FLAG, group=Group.GENERAL, has_key=False, in_api=True,
        help="Start a new search: in runs/PROBLEM-2, -3, ... if runs/PROBLEM has one.",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class CheckpointOptions:
    """What a master keeps."""

    keep_checkpoints: str = option(
        default="needed", kind=kinds.TEXT, group=Group.GENERAL, example='"needed"', choices=CHECKPOINTS, in_api=True,
        metavar="RULE", help="`needed`: when the search has dropped a configuration, one lease length later or at the "
        "end of the search, delete what its attempts saved in trial.directory, except their logs and what is in "
        "trial.keep_directory; the incumbent keeps everything. `best:N`: the best N configurations keep everything. "
        "`all`: delete nothing.",
    )  # fmt: skip
    checkpoint_quota: int | str | None = option(
        kind=kinds.SIZE, group=Group.GENERAL, metavar="SIZE", example='"50GB"', in_api=True,
        help="When the checkpoints in the run directory take more, delete those of finished evaluations, the worst "
        "first, even those that `--keep-checkpoints` keeps; never those of the incumbent, nor those that a lease or a "
        "promotion needs. The master's log lists them. Checkpoints on workers' own disks (`--scratch`) do not count.",
        otherwise="no limit",
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- workers


@record(frozen=True, kw_only=True)
class WorkerOptions:
    """The workers of one machine."""

    workers: int | None = option(
        kind=kinds.WHOLE, group=Group.WORKERS, metavar="N", example="4", short="-w", at_least=1, in_api=True,
        help="Worker processes on this machine.",
        otherwise="one for each GPU; without a GPU one for each core, at most 4. Of the command `worker`: one",
    )  # fmt: skip
    threads: int | None = option(
        kind=kinds.WHOLE, group=Group.WORKERS, metavar="N", example="2", at_least=1, in_api=True,
        help="CPU threads of each worker.", otherwise="its share of the cores",
    )  # fmt: skip
    gpus: str | None = option(
        kind=kinds.DEVICES, group=Group.WORKERS, metavar="all|N|TOKENS", example='"all"', in_api=True,
        help="One worker for each of these GPUs, unless `--workers` gives another number: `all` visible ones (at least "
        "one), the first `N`, or a list of GPUs as in CUDA_VISIBLE_DEVICES.",
    )  # fmt: skip
    gpus_per_worker: int = option(
        default=1, kind=kinds.WHOLE, group=Group.WORKERS, metavar="N", example="2", at_least=1, in_api=True,
        help="Give each evaluation N GPUs, and the environment variables with which its processes find each other. "
        "Without a GPU: N processes on the CPU.",
    )  # fmt: skip
    timeout_s: float | None = option(
        kind=kinds.DURATION, group=Group.WORKERS, metavar="TIME", example='"30m"', above=0, in_api=True,
        help="End an evaluation that takes longer; it counts as a bad result.", otherwise="never",
    )  # fmt: skip
    isolation: str = option(
        default="trainer", kind=kinds.TEXT, group=Group.WORKERS, example='"none"', choices=ISOLATIONS, in_api=True,
        help="`trainer` evaluates in a separate process: a crash does not end the worker. `none` evaluates in the "
        "worker's main process: for cheap functions that do not crash; those of milliseconds are leased several at a "
        "time.",
        old=(OldName(flag="--in-agent", key="in_agent", means={True: "none", False: "trainer"}),),
    )  # fmt: skip
    fresh_process: bool = option(
        default=False, kind=kinds.FLAG, group=Group.WORKERS, example="true", in_api=True,
        help="Start a new process for each evaluation, which imports the problem again: for objectives that leak "
        "memory or change state that a worker does not restore (TensorFlow).",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class GraceOptions:
    """How workers end what they run."""

    grace_s: float = option(
        default=20.0, kind=kinds.DURATION, group=Group.WORKERS, metavar="TIME", example='"5m"', above=0, in_api=True,
        help="Time in which an interrupted evaluation saves its state before its worker ends it: for large "
        "checkpoints. What ends the worker, such as Slurm or a container engine, must wait 10 seconds longer.",
        otherwise="20s",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class LeaveOptions:
    """When a worker leaves a search that is not over."""

    master_timeout_s: float = option(
        default=1_800.0, kind=kinds.DURATION, group=Group.WORKERS, metavar="TIME", example='"30m"', above=0,
        help="Continue for this time without a master; then leave the result in the run directory and end.",
        otherwise="30m",
    )  # fmt: skip
    idle_timeout_s: float | None = option(
        kind=kinds.DURATION, group=Group.WORKERS, metavar="TIME", example='"10m"', above=0,
        help="Each worker leaves after this time without work: near its end a search has few evaluations.",
        otherwise="stay until the search is over",
    )  # fmt: skip
    max_evaluations: int | None = option(
        kind=kinds.WHOLE, group=Group.WORKERS, metavar="N", example="100", at_least=1,
        help="Each worker leaves after this many evaluations.",
    )  # fmt: skip
    allocation_time_s: float | None = option(
        kind=kinds.DURATION, group=Group.WORKERS, metavar="TIME", has_key=False,
        help="Remaining time of this allocation. Workers start only evaluations that should end within it, as "
        "estimated from others at the same budget, and leave when there are none.",
        otherwise="from SLURM_JOB_END_TIME, else no limit", old=(OldName(flag="--max-time"),),
    )  # fmt: skip


# ------------------------------------------------------------------------------------ how processes find each other


@record(frozen=True, kw_only=True)
class NameServerOptions:
    """A name server that runs already."""

    nameserver: tuple[str, int] | None = option(
        kind=kinds.ADDRESS, group=Group.SERVICE, metavar="HOST:PORT", example='"127.0.0.1:9090"',
        variable="HPBANDSTER_LITE_NAMESERVER",
        help="Address of a running name server (see `hpbandster-lite nameserver`).",
    )  # fmt: skip
    nameserver_key: str | None = option(
        kind=kinds.FILE, group=Group.SERVICE, metavar="FILE", example='"names.key"',
        variable="HPBANDSTER_LITE_NAMESERVER_KEY_FILE",
        help="File with the name server's key.",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class TlsOptions:
    """Certificates."""

    tls: str | None = option(
        kind=kinds.DIRECTORY, group=Group.SERVICE, metavar="DIR", example='"tls"', variable=TLS_VARIABLE,
        help="Use TLS with the certificates in DIR (see `hpbandster-lite certs`).",
        otherwise="the folder tls of the run directory, if there is one",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class RunOptions(NameServerOptions, TlsOptions):
    """How a run is found and reached by its workers."""

    run_id: str | None = option(
        kind=kinds.TEXT, group=Group.SERVICE, metavar="ID", has_key=False, variable="HPBANDSTER_LITE_RUN_ID",
        help="Name of the run at the name server.",
        otherwise="the problem's name and a random number, which status shows",
    )  # fmt: skip
    key: str | None = option(
        kind=kinds.FILE, group=Group.SERVICE, metavar="FILE", has_key=False, variable="HPBANDSTER_LITE_KEY_FILE",
        help="File with the run's key, for workers that do not see `--run-dir`: the same secret for the master and its "
        "workers, or a copy of DIR/key.",
        otherwise="DIR/key, which the master creates",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class ListenOptions:
    """Where a master or a name server listens."""

    host: str = option(
        default=LOOPBACK, kind=kinds.TEXT, group=Group.SERVICE, metavar="ADDRESS", example='"127.0.0.1"',
        help="Address or name to listen on; `0.0.0.0` and `::` mean all addresses. Clients need the key in any case.",
    )  # fmt: skip
    interface: str | None = option(
        kind=kinds.TEXT, group=Group.SERVICE, metavar="NAME", example='"eth0"',
        help="Network interface to listen on, such as `ib0`, instead of `--host`.",
    )  # fmt: skip
    port: int | None = option(
        kind=kinds.PORT, group=Group.SERVICE, metavar="PORT", example="0",
        help="Port to listen on; 0 takes a free one.", otherwise="0; 9090 for a name server",
    )  # fmt: skip


@record(frozen=True, kw_only=True)
class LogOptions:
    """How a process writes its log."""

    log_format: str = option(
        default=TEXT, kind=kinds.TEXT, group=Group.SERVICE, choices=FORMATS, has_key=False,
        variable=LOG_FORMAT_VARIABLE,
        help="`json`: each line of the log is one JSON object with time, level, logger, message and further fields, "
        "tracebacks included.",
    )  # fmt: skip


TABLE: tuple[type, ...] = (
    *(PlaceOptions, CheckpointOptions, SearchOptions, LimitOptions, WorkerOptions, GraceOptions),
    *(LeaveOptions, ListenOptions),
    *(RunOptions, LogOptions),
)
"""Every record of options, in the order in which a search file has their keys."""
OPTIONS: Mapping[str, Option] = options_of(*TABLE)


def keys_by_table() -> dict[str, dict[str, Option]]:
    """The options with a key in a search file, by table and key; the top of the file is the table without a name."""
    found: dict[str, dict[str, Option]] = {group.table: {} for group in Group}
    for each in OPTIONS.values():
        if each.has_key and each.kind is not kinds.PARAMETERS:
            found[each.group.table][each.key] = each
    return found


def in_common(record_type: type, *given: object) -> dict[str, Any]:
    """The fields of records that a record of another type has too: what one process hands on to the next."""
    wanted = {declared.name for declared in fields(record_type)}
    return {
        declared.name: getattr(record, declared.name)
        for record in given
        for declared in fields(record)  # type: ignore[arg-type]  # a dataclass of any type
        if declared.name in wanted
    }


def check_values(record: object) -> None:
    """Check the values of a record's fields against the options of the same names.

    Raises
    ------
    UsageError
        With the field, its value and what is accepted.
    """
    for declared in fields(record):  # type: ignore[arg-type]  # a dataclass of any type
        about = OPTIONS.get(declared.name)
        value = getattr(record, declared.name)
        if about is not None and value is not None:
            check_value(about, value)


def check_files(record: object) -> None:
    """Check that the files exist that a record's options name, such as keys.

    Raises
    ------
    UsageError
        With the option, and the file.
    """
    for name, about in options_of(type(record)).items():
        value = getattr(record, name)
        # A pipe, which may be read only once, is a file, too.
        if about.kind is kinds.FILE and value is not None and not Path(value).exists():
            raise UsageError(f"{name} {value!r}: there is no such file; give one that exists, or leave it out")


def kept_configurations(keep_checkpoints: str) -> int | None:
    """How many of the best configurations keep their checkpoints; ``None``: all of them."""
    return None if keep_checkpoints == "all" else int(keep_checkpoints.partition(":")[2] or 1)


def is_choice(value: object, choice: str) -> bool:
    """Whether a value is this choice; the N of a choice such as ``best:N`` stands for a whole number from 1 on."""
    name, colon, _ = choice.partition(":N")
    return value == choice if not colon else bool(re.fullmatch(rf"{re.escape(name)}:0*[1-9]\d*", str(value)))


def _is_among(value: object, choices: Sequence[str]) -> bool:
    return any(is_choice(value, each) for each in choices)


def check_value(about: Option, value: Any) -> None:
    """Check a value against the choices and the bound of its option.

    Raises
    ------
    UsageError
        With the option, the value and what is accepted.
    """
    if about.kind is kinds.SIZE:
        kinds.byte_count(about.name, value)
    if isinstance(value, float) and not math.isfinite(value):
        remedy = "give a number" + (", or leave it out" if about.default is None else "")
        raise UsageError(f"{about.name} must be finite, got {value!r}; {remedy}")
    # Installed packages are asked only for a name that this package does not have.
    if about.choices and not (_is_among(value, about.choices) or _is_among(value, about.accepted)):
        raise UsageError(f"{about.name} must be one of {', '.join(about.accepted)}, got {value!r}")
    if about.above is not None and not value > about.above:
        unit = " seconds" if about.kind in kinds.DURATIONS else ""
        raise UsageError(f"{about.name} must be above {about.above}{unit}, got {value!r}")
    if about.at_least is not None and not value >= about.at_least:
        raise UsageError(f"{about.name} must be at least {about.at_least}, got {value!r}")


def split_limits(given: Mapping[str, Any]) -> tuple[Limits, dict[str, float]]:
    """Limits from values by the names of their options, and the amounts to add to what the search has.

    Raises
    ------
    UsageError
        If a limit is not above zero, or what follows a plus sign is not a number.
    """
    more = {}
    for name, option in options_of(LimitOptions).items():
        value: Any = given.get(name)
        if option.kind.amount is not None and kinds.is_more(value):
            more[name] = option.kind.amount(name, option.kind.read(name, value)[1:])
            check_value(option, more[name])
            if not more[name] > 0:
                raise UsageError(f"{name} {value!r} must be above zero; leave it out for no change")
    wanted = options_of(LimitOptions)
    return Limits(**{name: value for name, value in given.items() if name in wanted and name not in more}), more


def search_options(problem: str, given: Mapping[str, Any]) -> SearchOptions:
    """The record of a search from values by the names of the options of a search and of its limits."""
    limits, more = split_limits(given)
    rest = options_of(SearchOptions)
    return SearchOptions(
        problem=problem,
        limits=limits,
        more=more,
        **{name: value for name, value in given.items() if name in rest},
    )
