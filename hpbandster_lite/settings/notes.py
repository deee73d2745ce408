"""Notes: what a user reads before a search starts or continues, although nothing is wrong.

Law of this file: a note is a sentence, and no decision depends on it; an empty note says nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpbandster_lite.engine.same_fault import first_line
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import is_function, target_of
from hpbandster_lite.records import FailureKind, ProblemSource, SearchSettings, SourceChanged
from hpbandster_lite.samplers.model_start import ModelStart
from hpbandster_lite.settings.option_words import as_written
from hpbandster_lite.settings.options import SearchOptions

if TYPE_CHECKING:
    from hpbandster_lite.engine.decision_types import Retried
    from hpbandster_lite.space import Completed, SearchSpace

MOST_COMPLETED = 10
"""Completed configurations that a note lists."""


def written(options: SearchOptions, name: str, value: object = None) -> str:
    """An option in the words of the interface through which these options were given."""
    return as_written(name, value, is_call=options.arguments is not None)


def link_note(reference: str) -> str:
    """That the problem's file is a link into another folder, whose modules and files the problem uses."""
    path = Path(target_of(reference).partition(":")[0])
    if not path.is_symlink() or path.resolve().parent == path.parent.resolve():
        return ""
    return (
        f"{path} is a link: {path.resolve()} is the problem's file, with the modules and files beside that one; to "
        "search with those beside the link, copy the file there"
    )


def completion_note(initial: Sequence[Completed]) -> str:
    """Which values were added to the configurations that the user gave."""
    added = [f"configuration {number}: {each.note}" for number, each in enumerate(initial) if each.note]
    more = f"; and {len(added) - MOST_COMPLETED} more" if len(added) > MOST_COMPLETED else ""
    return f"left out in initial, and added: {'. '.join(added[:MOST_COMPLETED])}{more}" if added else ""


def forbidden_default_note(settings: SearchSettings, space: SearchSpace) -> str:
    """That the default configuration is not evaluated, because the space forbids it."""
    clause = None if settings.skip_default else space.forbidding_clause(space.default())
    if clause is None:
        return ""
    return f"the space forbids its own default configuration ({clause}); a sampled one is evaluated in its place"


def distribution_note(space: SearchSpace) -> str:
    """What the distributions and weights of the space act on."""
    named = [f"the {dim.prior.kind} distribution of {dim.name}" for dim in space.dimensions if dim.prior is not None]
    weighted = [dim.name for dim in space.dimensions if dim.weights is not None and len(set(dim.weights)) > 1]
    named += [f"the weights of {', '.join(weighted)}"] if weighted else []
    if not named:
        return ""
    return f"{'; '.join(named)}: they steer random draws, and the model of bohb and bo does not use them"


def drawn_seed_note(options: SearchOptions, seed: int) -> str:
    """Which seed was drawn, where the user gave none, and what it repeats."""
    if options.seed is not None:
        return ""
    return (
        f"seed {seed} was drawn; with one worker, {written(options, 'seed', seed)} repeats this search (with more, "
        "proposals depend on the order in which evaluations end)"
    )


def no_model_note(start: ModelStart | None, unit: str) -> str:
    """That no configuration will come from the model, which needs more results than the search has."""
    if start is None or start.is_used:
        return ""
    at = f"{start.budget:g} {unit}"
    has = f"this search has at most {start.most}, at {at}"
    if start.evaluations is not None:
        has = f"this search has them after evaluation {start.evaluations}, at {at}, and samples nothing after that"
    return (
        f"no configuration will come from the model: it begins with {start.results} results at one budget (by default "
        f"the number of hyperparameters and three), and {has}; search fewer hyperparameters, raise the limits, or set "
        "the sampler's parameter min_points_in_model"
    )


def edit_note(edited: SourceChanged) -> str:
    """What was edited in the problem's source, and what that changes."""
    return (
        f"the problem's source was edited ({'; '.join(edited.differences)}); earlier results are kept as they are, and "
        "status shows from which evaluation on the source is another one"
    )


def not_compared_note(accepted: ProblemSource | None, found: ProblemSource | None) -> str:
    """That nothing shows whether a function is the one with which the search began."""
    if found is None or not is_function(found):
        return ""
    reasons = [source.not_comparable for source in (accepted, found) if source is not None and source.not_comparable]
    if accepted is None:
        reasons = ["its journal is of an older version"]
    if not reasons:
        return ""
    return f"whether the function is the one of the search could not be compared ({reasons[-1]}); the search goes on"


def retry_notes(retried: Retried, *, is_changed: bool) -> list[str]:
    """What is put back, and whether another outcome is likely."""
    notes = [retried.sentence]
    if retried.put_back and not is_changed:
        notes.append(
            "the problem's source is as it was when the search began; unless something else was corrected, what failed "
            "will fail again"
        )
    return notes


def halt_notes(options: SearchOptions, reader: JournalReader, path: Path) -> list[str]:
    """Why the search was stopped, or is paused."""
    notes = []
    finished, paused = reader.finished(), reader.paused()
    if finished is not None and finished.kind.was_stopped:
        notes.append(f"the search was {first_line(finished.reason)}; a new start continues it")
        if not options.retry_failed and any(FailureKind(kind).is_mendable for kind in reader.failures()):
            retry = written(options, "retry_failed")
            notes.append(f"what failed stays as it is; {retry} runs it again, once the code is corrected")
    if paused is not None:
        why = f" ({paused[0]})" if paused[0] else ""
        notes.append(f"the search is paused{why}; to evaluate again: hpbandster-lite resume {shlex.quote(str(path))}")
    return notes
