"""From the options of a search to its settings: fill in defaults, check, compare with an earlier start.

Law of this file: everything wrong with the input is found here, before any process is started or GPU time spent.
A search that continues takes options that are left out from its journal; a given one that differs is refused.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpbandster_lite import wire
from hpbandster_lite.errors import BudgetError, Held, JournalError, ResumeError, SpaceError, UsageError
from hpbandster_lite.hyperband.brackets import BracketPlan
from hpbandster_lite.hyperband.budgets import Ladder, explicit_ladder, ladder
from hpbandster_lite.hyperband.direction import turned_limits
from hpbandster_lite.journal import DIRECTION, SPACE, JournalReader, holds_anything, lost_note, settings_difference
from hpbandster_lite.problems import (
    describe_in_child,
    describe_with_data,
    given_in,
    is_function,
    name_of,
    source_in_child,
    with_options,
    with_options_of_search,
)
from hpbandster_lite.problems.shipped_data import MissingData
from hpbandster_lite.randomness import Purpose, generator_for
from hpbandster_lite.records import (
    ConfigId,
    Limits,
    ProblemDescription,
    SearchSettings,
    SourceChanged,
)
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.samplers import bracket_plan
from hpbandster_lite.samplers.model_start import ModelStart, model_start
from hpbandster_lite.settings.notes import (
    completion_note,
    distribution_note,
    drawn_seed_note,
    edit_note,
    forbidden_default_note,
    halt_notes,
    link_note,
    no_model_note,
    not_compared_note,
    retry_notes,
    written,
)
from hpbandster_lite.settings.options import OPTIONS, SearchOptions, check_values
from hpbandster_lite.settings.source_check import accepted_edit

if TYPE_CHECKING:
    import numpy as np

    from hpbandster_lite.engine.decision_types import Retried
    from hpbandster_lite.engine.state import State
    from hpbandster_lite.space import Completed, SearchSpace

RESTORED_ALONE = "a journal may be replaced only while no master serves it: end that master, and restore the copy again"
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A run id names an entry at the name server and, on workers without a shared disk, a folder."""


@wire.register("Prepared")
@record(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A search that may start: what defines it, when it stops, and the messages for the user.

    ``retry_failed_after`` is the epoch of the last master that served; the first one after it puts the failures of the
    code back, and masters that replace that one do not. ``None`` leaves failures alone.
    ``restored_after`` is the same for a journal that was restored from a copy: only the first master begins so.
    ``only_minimize``: no command continues the search, because only a call of ``minimize`` has its space. ``limits``
    are those of the journal, with a loss as target; :attr:`users_limits` have what the user gave.
    """

    settings: SearchSettings
    limits: Limits
    resumed: bool
    notes: tuple[str, ...] = ()
    retry_failed_after: int | None = None
    restored_after: int | None = None
    keep_going: bool = False
    edited: SourceChanged | None = None
    only_minimize: bool = False

    @property
    def users_limits(self) -> Limits:
        """The limits with the target in the user's sign."""
        return turned_limits(self.limits, maximize=self.settings.maximize)

    @property
    def plans(self) -> list[BracketPlan]:
        """The brackets within the limit; one Hyperband cycle where brackets are not limited."""
        count = self.limits.brackets or len(self.settings.budgets)
        return [bracket_plan(self.settings, bracket) for bracket in range(count)]

    @property
    def model_start(self) -> ModelStart | None:
        """When the model begins; None if the search has no model."""
        return model_start(self.settings, self.limits)


def prepare(
    options: SearchOptions,
    run_directory: RunDirectory | None = None,
    *,
    meanwhile: Callable[[], object] | None = None,
    on_missing: Callable[[MissingData], object] | None = None,
    on_progress: Callable[[str], object] | None = None,
) -> Prepared:
    """Settings and limits of a new search, or of the one that the run directory holds.

    Parameters
    ----------
    options
        As given by the user.
    run_directory
        Where the search is or will be kept.
    meanwhile
        Called while another process reads the problem, which imports ConfigSpace for a second.
    on_missing
        Called with what a shipped problem lacks on this host. Default: None; then the data is not looked for, and the
        problem's notes are not read.
    on_progress
        Called with words about a look at the data of a shipped problem that takes long. Default: None.

    Raises
    ------
    UsageError
        For an invalid option.
    ResumeError
        If the run directory holds another search; with what differs.
    ProblemError
        If the problem cannot be loaded or does not fit its interface.
    Held
        If the journal was restored and a master serves it.
    """
    check_values(options)
    check_values(options.limits)
    _check_alone(options)
    data = None if on_missing is None else _OnData(on_missing, on_progress)
    found = _prepared(options, run_directory, meanwhile, data)
    is_ours = partial(_may_be_of, found.settings.problem.name)
    lost = "" if run_directory is None else lost_note(run_directory.journal, is_ours=is_ours)
    first = filter(None, (lost, link_note(options.problem)))
    return replace(found, notes=(*first, *found.notes))


def _may_be_of(problem: str, copy: Path) -> bool:
    """Whether a copy of a journal has this problem, or cannot be read."""
    try:
        return JournalReader(copy).settings().problem.name == problem
    except JournalError:
        return True


class _OnData(NamedTuple):
    """What receives words about the data of a shipped problem; see :func:`prepare`."""

    on_missing: Callable[[MissingData], object]
    on_progress: Callable[[str], object] | None


def _prepared(
    options: SearchOptions,
    run_directory: RunDirectory | None,
    meanwhile: Callable[[], object] | None,
    data: _OnData | None,
) -> Prepared:
    if run_directory is None or not holds_anything(run_directory.journal):
        _refuse_restored(options, run_directory)
        if options.description is not None:
            # The processes start while a child reads the source: what is wrong is found before.
            _begin(options, options.description)
        description, notes = _described(options, options.problem, meanwhile, data, begins=True)
        found = _begin(options, description)
        return replace(found, notes=(*found.notes, *notes))
    if options.restored and run_directory.is_served():
        raise Held(f"{run_directory.path} is served by a master; {RESTORED_ALONE}")
    reader = JournalReader(run_directory.journal)
    reference = with_kept_options(options.problem, reader.settings().problem.reference)
    description, notes = _described(options, reference, meanwhile, data, begins=False)
    found = _resume(options, description, reader, run_directory.path)
    return replace(found, notes=(*found.notes, *notes))


def _check_alone(options: SearchOptions) -> None:
    """Refuse values that are wrong for every problem, before a process reads this one."""
    _run_id(options.run_id)
    _seed(options.seed)
    if options.budgets is not None:
        explicit_ladder(options.budgets)


def _refuse_restored(options: SearchOptions, run_directory: RunDirectory | None) -> None:
    if options.restored:
        where = "" if run_directory is None else f" {run_directory.journal}"
        raise UsageError(f"there is no journal{where} that was restored; put the copy there, or leave --restored out")


def _described(
    options: SearchOptions,
    reference: str,
    meanwhile: Callable[[], object] | None,
    data: _OnData | None,
    *,
    begins: bool,
) -> tuple[ProblemDescription, Sequence[str]]:
    """The problem as a child process describes it, or as the caller does; its source is then read by a child.

    The second value has the notes of a shipped problem.
    """
    arguments, about = options.arguments or (), options.description
    meanwhile = partial(_meanwhile, meanwhile)
    if about is None and data is not None:
        found = describe_with_data(
            reference, arguments=arguments, meanwhile=meanwhile, on_progress=data.on_progress, begins=begins
        )
        if found.missing is not None:
            data.on_missing(found.missing)
        return found.about, found.notes
    if about is None:
        return describe_in_child(reference, arguments=arguments, meanwhile=meanwhile, begins=begins), ()
    about = with_options_of_search(about, reference, begins=begins)
    if options.arguments is None or about.source is None or is_function(about.source):
        return about, ()
    source = source_in_child(about.reference, arguments=arguments, meanwhile=meanwhile)
    return replace(about, source=source), ()


def _meanwhile(work: Callable[[], object] | None) -> None:
    """Do the caller's work while the problem is described, then import what its space is checked with."""
    if work is not None:
        work()
    import hpbandster_lite.space  # noqa: F401 (it is used after the description)


def with_kept_options(reference: str, kept: str) -> str:
    """A reference with the options that the search was begun with, unless it gives others or names another problem."""
    if name_of(reference) != name_of(kept):
        return reference
    return with_options(with_options(reference, given_in(kept)), given_in(reference))


def _begin(options: SearchOptions, description: ProblemDescription) -> Prepared:
    if options.integer_budgets is not None:
        description = replace(description, integer_budgets=options.integer_budgets)
    steps = _ladder(options, description)
    seed = _seed(options.seed)
    initial = _completed(options, description, seed)
    settings = SearchSettings(
        run_id=_run_id(options.run_id) or f"{description.name}-{secrets.token_hex(4)}",
        problem=description,
        budgets=steps.budgets,
        eta=steps.eta,
        unit=steps.unit,
        seed=seed,
        seed_was_given=options.seed is not None,
        sampler=dict(options.sampler),
        initial=tuple(each.values for each in initial),
        replaces_forbidden_default=True,
        maximize=description.maximize if options.maximize is None else options.maximize,
        keeps_given_values=True,
        **_given(options, "skip_default"),
        **_of_a_new_search(options, "algorithm", "bracket_rule", "max_attempts", "lease_s", "heartbeat_s"),
    )
    space = _checked_space(settings)
    limits = _first_limits(options, settings)
    notes = (
        steps.note,
        forbidden_default_note(settings, space),
        completion_note(initial),
        distribution_note(space),
        drawn_seed_note(options, settings.seed),
        "nothing has failed yet, so there is nothing to retry: the search begins" if options.retry_failed else "",
        no_model_note(model_start(settings, limits), settings.unit),
    )
    return Prepared(
        settings=settings,
        limits=limits,
        resumed=False,
        notes=tuple(filter(None, notes)),
        keep_going=options.keep_going,
        only_minimize=options.only_minimize,
    )


def _first_limits(options: SearchOptions, settings: SearchSettings) -> Limits:
    """The limits of a new search; without any, the problem's number of brackets, or one cycle of them."""
    # Nothing was started yet: the amount to add is the limit.
    more: Mapping[str, Any] = options.more
    limits = turned_limits(replace(options.limits, **more), maximize=settings.maximize)
    if limits != Limits(max_concurrent=limits.max_concurrent):
        return limits
    return replace(limits, brackets=settings.problem.brackets or len(settings.budgets))


def _resume(options: SearchOptions, description: ProblemDescription, reader: JournalReader, path: Path) -> Prepared:
    stored = reader.settings()
    _refuse_another_run(options, description, stored, path)
    description, grown = _with_stored_space(description, stored)
    wanted = _wanted_settings(options, description, stored)
    if options.sampler or options.initial:
        # A misspelt name is not another setting.
        _checked_space(replace(wanted, sampler=options.sampler, initial=wanted.initial if options.initial else ()))
    _refuse_other_settings(options, wanted, stored, path)
    is_accepted = options.accept_edited_source or options.retry_failed
    is_call = options.arguments is not None
    edited = accepted_edit(reader, description, path, is_accepted=is_accepted, is_call=is_call)
    notes = grown + ([] if edited is None else [edit_note(edited)])
    if stored.maximize and options.maximize is None and not description.maximize:
        notes.append("the search goes on as it began: it maximizes what the objective returns")
    not_compared = not_compared_note(reader.source(), description.source)
    notes += [not_compared] if not_compared else []
    if options.retry_failed:
        notes += retry_notes(_retriable(stored, reader), is_changed=edited is not None)
    notes += halt_notes(options, reader, path)
    limits, more_notes = _limits(options, stored, reader)
    notes += more_notes
    problem = replace(wanted.problem, source=reader.source(), source_hash=stored.problem.source_hash)
    settings = replace(wanted, problem=problem, **_given(options, "lease_s", "heartbeat_s"))
    _checked_space(settings)
    served = [master["epoch"] for master in reader.masters() if master["started_at"] is not None]
    return Prepared(
        settings=settings,
        limits=limits,
        resumed=True,
        notes=tuple(notes),
        retry_failed_after=max(served, default=0) if options.retry_failed else None,
        restored_after=max(served, default=0) if options.restored else None,
        keep_going=options.keep_going,
        edited=edited,
        only_minimize=options.only_minimize,
    )


def _limits(
    options: SearchOptions, stored: SearchSettings, reader: JournalReader
) -> tuple[Limits, list[str]]:
    """The limits of this start: the given ones, or those of the last start; and the notes about ``+N``."""
    given, before = turned_limits(options.limits, maximize=stored.maximize), reader.limits()
    if not options.more:
        return before if given == Limits() else given, []
    from hpbandster_lite.engine.extension import extend

    spent_s = math.fsum(master["served_s"] for master in reader.masters())
    extended = extend(_state(stored, reader), stored, options.more, spent_s=spent_s)
    if given == Limits() and not extended.is_change:
        return before, list(extended.notes)
    most = given.max_concurrent or before.max_concurrent
    return replace(given, **extended.limits, max_concurrent=most), list(extended.notes)


def _with_stored_space(description: ProblemDescription, stored: SearchSettings) -> tuple[ProblemDescription, list[str]]:
    """The problem with the space of its journal, and the note.

    The journal's space stays in force where only the order of choices is another one, as in a set, and for a shipped
    problem also where a later version has only added to it.
    """
    # Imported here: see _checked_space.
    from hpbandster_lite.space import first_difference, has_only_grown, in_order_of

    then, now = stored.problem.space_json, in_order_of(stored.problem.space_json, description.space_json)
    other_order = first_difference(then, description.space_json)
    if other_order is not None and first_difference(then, now) is None:
        note = f"the space has its choices in another order ({other_order}); the search goes on in the journal's order"
        return replace(description, space_json=then, space_tables=stored.problem.space_tables), [note]
    if description.source is None or description.source.version is None:
        return description, []
    difference = first_difference(then, now)
    if difference is None or not has_only_grown(then, now):
        return description, []
    note = f"the space of {description.name} has grown since ({difference}); the search continues in its own space"
    return replace(description, space_json=then, space_tables=stored.problem.space_tables), [note]


def _refuse_another_run(
    options: SearchOptions, description: ProblemDescription, stored: SearchSettings, path: Path
) -> None:
    if description.name != stored.problem.name:
        raise ResumeError(
            f"the run directory {path} belongs to the problem {stored.problem.name!r}, not to {description.name!r}; "
            f"give another {written(options, 'run_dir')}, or {written(options, 'new')}"
        )
    if options.run_id not in (None, stored.run_id):
        raise ResumeError(
            f"the run directory {path} holds the run {stored.run_id!r}, not {options.run_id!r}; "
            f"leave --run-id out, give --run-id {stored.run_id}, or another --run-dir"
        )


def _refuse_other_settings(
    options: SearchOptions, wanted: SearchSettings, stored: SearchSettings, path: Path
) -> None:
    difference = settings_difference(stored, wanted)
    if difference is None:
        return
    remedy = "Give the journal's value (or leave the option out)"
    if difference.setting == SPACE:
        remedy = "Restore the space"
    elif difference.setting == DIRECTION and options.maximize is None:
        remedy = "Restore what the problem says of maximize"
    raise ResumeError(
        f"the search in {path} cannot continue with other settings: {difference.sentence}. "
        f"{remedy}, or start another search with {written(options, 'new')}"
    )


def _wanted_settings(options: SearchOptions, description: ProblemDescription, stored: SearchSettings) -> SearchSettings:
    """The stored settings with the options that are given, and the problem as it is found now."""
    # The file of the problem may have moved since the search began.
    asked, is_whole = options.integer_budgets, stored.problem.integer_budgets
    description = replace(description, integer_budgets=is_whole if asked is None else asked)
    wanted = replace(stored, problem=description)
    if any(value is not None for value in (options.min_budget, options.max_budget, options.eta, options.budgets)):
        steps = _ladder(_with_stored_budgets(options, stored), description)
        wanted = replace(wanted, budgets=steps.budgets, eta=steps.eta)
    given = _given(options, "unit", "algorithm", "bracket_rule", "seed", "initial", "skip_default", "max_attempts")
    if options.initial:
        given["initial"] = tuple(each.values for each in _completed(options, description, stored.seed))
    given["maximize"] = _wanted_direction(options, description, stored)
    if options.sampler:
        given["sampler"] = dict(options.sampler)
    return replace(wanted, **given)


def _wanted_direction(options: SearchOptions, description: ProblemDescription, stored: SearchSettings) -> bool:
    """Whether to maximize; a problem that now declares another direction asks for that one."""
    if options.maximize is not None:
        return options.maximize
    return stored.maximize if description.maximize == stored.problem.maximize else description.maximize


def _completed(options: SearchOptions, description: ProblemDescription, seed: int) -> list[Completed]:
    """The configurations to evaluate first, with what the user left out; the same for the same seed."""
    if not options.initial:
        return []
    from hpbandster_lite.space import SearchSpace, completed

    def rng_of(number: int) -> np.random.Generator:
        return generator_for(seed, Purpose.INITIAL, ConfigId(0, 0, number))

    try:
        return completed(SearchSpace.from_json(description.space_tables), options.initial, rng_of)
    except SpaceError as error:
        raise SpaceError(f"initial: {error}") from error


def _retriable(stored: SearchSettings, reader: JournalReader) -> Retried:
    from hpbandster_lite.engine.retry_failed import retriable

    return retriable(_state(stored, reader))


def _state(stored: SearchSettings, reader: JournalReader) -> State:
    """The state in which the last master left the search."""
    from hpbandster_lite.engine.state import state_for

    state = state_for(stored)
    for _, _, entry in reader.entries():
        state.apply(entry)
    return state


def _with_stored_budgets(options: SearchOptions, stored: SearchSettings) -> SearchOptions:
    if options.budgets is not None:
        return options
    lowest, highest = stored.budgets[0], stored.budgets[-1]
    return replace(
        options,
        min_budget=lowest if options.min_budget is None else options.min_budget,
        max_budget=highest if options.max_budget is None else options.max_budget,
        eta=stored.eta if options.eta is None else options.eta,
    )


def _ladder(options: SearchOptions, description: ProblemDescription) -> Ladder:
    unit = options.unit or description.unit
    eta = options.eta if options.eta is not None else description.eta
    if options.budgets is not None:
        if options.min_budget is not None or options.max_budget is not None:
            raise BudgetError("give either budgets or min_budget and max_budget, not both")
        return explicit_ladder(options.budgets, unit=unit, eta=eta, integer=description.integer_budgets)
    explicit = description.budgets is not None and options.min_budget is None and options.max_budget is None
    if explicit and description.budgets is not None:
        return explicit_ladder(description.budgets, unit=unit, eta=eta, integer=description.integer_budgets)
    lowest = options.min_budget if options.min_budget is not None else description.min_budget
    highest = options.max_budget if options.max_budget is not None else description.max_budget
    if lowest is None or highest is None:
        name = "min_budget" if lowest is None else "max_budget"
        raise BudgetError(f"the problem {description.name!r} has no {name}; give one")
    eta = OPTIONS["eta"].new_search if eta is None else eta
    return ladder(lowest, highest, eta, unit=unit, integer=description.integer_budgets)


def _run_id(run_id: str | None) -> str | None:
    if run_id is not None and RUN_ID.fullmatch(run_id) is None:
        raise UsageError(
            f"invalid run id {run_id!r}: use up to 100 letters, digits, dots, underscores and hyphens; the first is "
            "a letter or a digit"
        )
    return run_id


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(2**31)
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed must be in [0, 2**63), got {seed}")
    return seed


def _given(options: SearchOptions, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _of_a_new_search(options: SearchOptions, *names: str) -> dict[str, Any]:
    """Given values, and the table's values for a new search where none are given."""
    return {name: OPTIONS[name].new_search for name in names} | _given(options, *names)


def _checked_space(settings: SearchSettings) -> SearchSpace:
    """The space; refuses wrong sampler parameters, initial configurations and lease times now, not in the master."""
    # Here, as the engine above: most commands need no numpy, which takes a quarter of a second to import.
    from hpbandster_lite.samplers import make_sampler
    from hpbandster_lite.space import SearchSpace

    space = SearchSpace.from_json(settings.problem.space_tables)
    if settings.sampler:
        # Without parameters there is nothing to refuse, and preparing a search needs no model.
        make_sampler(settings.algorithm, space, settings.budgets, settings.sampler)
    if settings.initial:
        space.to_vectors(list(settings.initial))
    if not 0 < settings.heartbeat_s <= settings.lease_s / 2:
        raise UsageError(
            f"heartbeat_s must be above 0 and at most half of lease_s, got {settings.heartbeat_s} "
            f"and lease_s={settings.lease_s}; the defaults are 5 and 60"
        )
    return space
