"""The description of a problem, read once and kept in the journal.

Law of this file: the master and the agents never import a problem; they read its description. A child process makes the
description, and only that process imports ConfigSpace.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from hpbandster_lite import wire
from hpbandster_lite.errors import ProblemError, ProtocolMismatch, SearchError, SpaceError, UnknownOption
from hpbandster_lite.problems.interface import Problem, defaults_of
from hpbandster_lite.problems.opened_files import OpenedFiles
from hpbandster_lite.problems.options import canonical, described_options, target_of, with_options
from hpbandster_lite.problems.references import GUARD, absolute, load, load_here, module_of, name_of, space_refused
from hpbandster_lite.problems.script_arguments import ScriptArguments, script_arguments
from hpbandster_lite.problems.shipped_data import MissingData, chosen_at_the_beginning, missing_data, notes_of
from hpbandster_lite.problems.source import file_of, file_of_name, source_of
from hpbandster_lite.process import describer
from hpbandster_lite.process.forks import ForksEndHere
from hpbandster_lite.records import Plain, ProblemDescription, ProblemSource

R = TypeVar("R", ProblemDescription, ProblemSource)

MISSING = "missing data"
"""Key of the child's answer for what this host lacks; no part of the description."""
NOTES = "notes"
"""Key of the child's answer for the notes of a shipped problem; no part of the description."""
PROGRESS = "progress"
"""Key of a line with words about a look at the data; no answer."""
DESCRIBE_LIMIT_S = 300.0
"""Time limit of an import, and between two lines about progress. A cold import of torch from a network file system
has taken a minute."""


def describe(
    problem: Problem, reference: str, *, opened: OpenedFiles | None = None, path_before: Sequence[str] = ()
) -> ProblemDescription:
    """Read a configured problem's space, budgets, options and source; imports ConfigSpace, as its space does.

    Parameters
    ----------
    problem, reference
        The problem, and the reference from which it was loaded.
    opened, path_before
        For a process that only makes this description; see :func:`~hpbandster_lite.problems.source.source_of`.

    Raises
    ------
    ProblemError
        If it has no space, or a default has a wrong type.
    SpaceError
        If the space cannot be built, or contains something that a search does not support.
    """
    # Imported here: a trainer describes no problem and may not need numpy.
    from hpbandster_lite.space import SearchSpace, configspace_to_json

    space = _space_of(problem, target_of(reference))
    options = described_options(problem, reference)
    tables = SearchSpace.from_configspace(space).to_json()
    return ProblemDescription(
        reference=canonical(absolute(reference), options),
        name=name_of(reference),
        space_json=configspace_to_json(space),
        space_tables=tables,
        has_feasible=getattr(problem, "feasible", None) is not None,
        has_test=getattr(problem, "test", None) is not None,
        has_refit=getattr(problem, "refit", None) is not None,
        has_export=getattr(problem, "export", None) is not None,
        source_hash=source_hash(problem),
        source=source_of(problem, module_of(reference), opened=opened, path_before=path_before),
        options=options,
        **defaults_of(problem, target_of(reference)),
    )


def _space_of(problem: Problem, reference: str) -> Any:
    space = getattr(problem, "space", None)
    if space is None:
        raise ProblemError(
            f"{reference!r} has no search space; give it a function space() that returns a "
            "ConfigSpace.ConfigurationSpace"
        )
    if not callable(space):
        return space
    try:
        with ForksEndHere():
            return space()
    except SearchError:
        raise
    except Exception as error:  # the user's code may raise any exception
        raise SpaceError(space_refused(reference, error)) from error


# ------------------------------------------------------------------------------------------------------------ source


def source_hash(problem: Problem) -> str:
    """The hash of the source by method 1, for journals that have no other one; empty if there is no source.

    It is the SHA-256 of the file that defines the problem, or of all Python files of its package, and of the modules
    and packages in ``source_modules``.
    """
    file = file_of(problem)
    if file is None:
        return ""
    digest = hashlib.sha256()
    for whole in (file, *map(file_of_name, getattr(problem, "source_modules", ()))):
        for part in sorted(whole.parent.rglob("*.py")) if whole.name == "__init__.py" else [whole]:
            content = part.read_bytes()
            name = part.relative_to(whole.parent)
            # A name that the locale's encoding does not have counts by its bytes.
            digest.update(f"{name} {len(content)}\n".encode("utf-8", "surrogateescape"))
            digest.update(content)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------- in a child


def prepare_to_describe() -> None:
    """Import what :func:`describe` needs for any problem."""
    from hpbandster_lite.space import import_configspace

    import_configspace()


def answer_for(question: Plain, on_progress: Callable[[str], object]) -> str:
    """Load and describe a problem, or its source alone; return the child's answer, which is one line.

    Parameters
    ----------
    question
        As of :func:`_question`.
    on_progress
        Receives words about a look at the data of a shipped problem.

    Raises
    ------
    SearchError
        If the problem cannot be loaded or described; see :func:`refusal_for`.
    """
    reference, path_before = question["reference"], list(sys.path)
    opened = OpenedFiles()
    with script_arguments(reference, question["arguments"]) as arguments:
        problem, reference = load_here(reference)
        if question["begins"]:
            problem, reference = _with_chosen(problem, reference)
    if question["is_source_alone"]:
        source = source_of(problem, module_of(reference), opened=opened, path_before=path_before)
        return wire.encode(wire.to_message(_with_arguments(source, arguments)))
    about = describe(problem, reference, opened=opened, path_before=path_before)
    source = _with_arguments(about.source or ProblemSource(), arguments)
    found: dict[str, Plain] = {}
    if question["looks_for_data"]:
        missing = missing_data(problem, on_progress)
        found = {MISSING: missing and list(missing), NOTES: list(notes_of(problem)) if missing is None else []}
    return wire.encode({**wire.to_message(replace(about, source=source)), **found})


def _with_chosen(problem: Problem, reference: str) -> tuple[Problem, str]:
    """A problem and its reference with the options that the host chooses on which the search begins."""
    chosen = chosen_at_the_beginning(problem)
    if not chosen:
        return problem, reference
    reference = with_options(reference, chosen)
    return load(reference), reference


def with_options_of_search(about: ProblemDescription, reference: str, *, begins: bool) -> ProblemDescription:
    """The description of a shipped problem, which the caller made, with the options of its search; others unchanged.

    Parameters
    ----------
    about
        The description.
    reference
        The problem, with the options that the search was begun with.
    begins
        Whether the search begins, so that this host chooses options.
    """
    # A caller that made the description has loaded the problem.
    if about.source is None or about.source.version is None or module_of(reference) is None:
        return about
    problem = load(reference)
    if begins:
        problem, reference = _with_chosen(problem, reference)
    return about if reference == about.reference else describe(problem, reference)


def _with_arguments(source: ProblemSource, arguments: ScriptArguments) -> ProblemSource:
    return source if source.version is not None else replace(source, arguments=arguments.source)


def progress_line(text: str) -> str:
    """A line before the answer, which sets the time limit anew."""
    return wire.encode({PROGRESS: text})


def refusal_for(error: SearchError) -> str:
    """The answer of the child if the problem cannot be described."""
    option = error.option if isinstance(error, UnknownOption) else ""
    return wire.encode({"refused": type(error).__name__, "message": str(error), "option": option})


def describe_in_child(
    reference: str,
    *,
    arguments: Sequence[str] = (),
    limit_s: float = DESCRIBE_LIMIT_S,
    meanwhile: Callable[[], object] | None = None,
    begins: bool = False,
) -> ProblemDescription:
    """Describe a problem in a child process, which ends before this function returns.

    Parameters
    ----------
    reference
        See :func:`~hpbandster_lite.problems.references.load`.
    arguments
        See :func:`~hpbandster_lite.problems.script_arguments.script_arguments`.
    limit_s
        Longest time in seconds for the import of the problem. Default: 300.
    meanwhile
        Called when the process runs, for work to do in the meantime.
    begins
        Whether a search begins with it on this host, which then chooses the options that a shipped problem leaves to
        this host. Default: False.

    Raises
    ------
    ProblemError, SpaceError
        The errors of :func:`describe` and ``load`` in the child; also if the process dies or takes too long.
    """
    question = _question(reference, arguments) | {"begins": begins}
    return _record(_answer(question, limit_s, meanwhile), ProblemDescription)


class OnThisHost(NamedTuple):
    """The description of a problem, what a shipped one lacks on this host, and its notes; none if anything lacks."""

    about: ProblemDescription
    missing: MissingData | None
    notes: tuple[str, ...]


def describe_with_data(
    reference: str,
    *,
    arguments: Sequence[str] = (),
    meanwhile: Callable[[], object] | None = None,
    on_progress: Callable[[str], object] | None = None,
    begins: bool = False,
) -> OnThisHost:
    """Like :func:`describe_in_child`, with what a shipped problem lacks on this host, and its notes.

    ``on_progress`` receives words about a look at its data that takes long.
    """
    question = _question(reference, arguments) | {"looks_for_data": True, "begins": begins}
    line = _answer(question, DESCRIBE_LIMIT_S, meanwhile, on_progress)
    about, answer = _record(line, ProblemDescription), wire.decode(line.decode("ascii"))
    lacks = answer.get(MISSING)
    return OnThisHost(about, None if lacks is None else MissingData(*lacks), tuple(answer.get(NOTES, ())))


def _question(reference: str, arguments: Sequence[str]) -> dict[str, Plain]:
    return {
        "reference": reference,
        "arguments": list(arguments),
        "is_source_alone": False,
        "looks_for_data": False,
        "begins": False,
    }


def source_in_child(
    reference: str, *, arguments: Sequence[str] = (), meanwhile: Callable[[], object] | None = None
) -> ProblemSource:
    """Read the source of a problem whose space the caller has, in a child process: see :func:`describe_in_child`."""
    question = _question(reference, arguments) | {"is_source_alone": True}
    return _record(_answer(question, DESCRIBE_LIMIT_S, meanwhile), ProblemSource)


def _answer(
    question: dict[str, Any],
    limit_s: float,
    meanwhile: Callable[[], object] | None,
    on_progress: Callable[[str], object] | None = None,
) -> bytes:
    child = describer.take()
    try:
        child.ask(question)
        try:
            if meanwhile is not None:
                meanwhile()
            line, is_late = _answer_in(_lines(child.answers, limit_s), on_progress)
        finally:
            # This also ends processes that the problem's import started.
            code = child.end()
        if not line.endswith(b"\n"):
            how = _describe_end(code, limit_s, is_late)
            raise ProblemError(_no_answer(question["reference"], how, child.output))
    finally:
        child.close()
    return line


def _answer_in(
    lines: Iterator[tuple[bytes, bool]], on_progress: Callable[[str], object] | None
) -> tuple[bytes, bool]:
    """The first line that is not about progress."""
    while True:
        line, is_late = next(lines)
        words = _progress_in(line)
        if words is None:
            return line, is_late
        if on_progress is not None:
            on_progress(words)


def _progress_in(line: bytes) -> str | None:
    """The words of a line about progress; None if it is the answer, or not complete."""
    # Looked for in the text first: the answer may be long and is decoded once.
    if not (line.startswith(b'{"' + PROGRESS.encode("ascii") + b'"') and line.endswith(b"\n")):
        return None
    words: str = wire.decode(line.decode("ascii"))[PROGRESS]
    return words


def _lines(answers: int, limit_s: float) -> Iterator[tuple[bytes, bool]]:
    """Each line, then what is there at the end of the file or at a line's time limit; and whether it is that limit."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        ends_at = time.monotonic() + limit_s
        while True:
            line, end, after = rest.partition(b"\n")
            if end:
                yield line + end, False
                rest, ends_at = after, time.monotonic() + limit_s
                continue
            if not selector.select(max(0.0, ends_at - time.monotonic())):
                yield rest, True
                return
            part = os.read(answers, 65_536)
            if not part:
                yield rest, False
                return
            rest += part


def _describe_end(returncode: int, limit_s: float, is_late: bool) -> str:
    if is_late:
        return f"was ended after {limit_s:g} s"
    if returncode == -signal.SIGKILL:
        return "closed the pipe for its answer (os.closerange?), or was killed (out of memory?)"
    return f"died of {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with exit code {returncode}"


def _no_answer(reference: str, how: str, output: IO[bytes]) -> str:
    output.seek(0)
    printed = output.read()[-4_000:].decode("utf-8", errors="replace").strip()
    remedy = _hidden_modules(printed) or GUARD
    return f"importing {target_of(reference)!r} {how}; {remedy}" + (f"\nIts last output:\n{printed}" if printed else "")


def _hidden_modules(printed: str) -> str:
    """What to do about files of this folder that hide modules of Python, if the printed traceback names some."""
    here = Path.cwd()
    named = (each for each in sorted(here.glob("*.py")) if str(each) in printed)
    files = ", ".join(each.name for each in named if each.stem in sys.stdlib_module_names)
    return f"in {here}, {files} hides a module of Python that has its name; rename it" if files else ""


def _record(line: bytes, record_type: type[R]) -> R:
    message: Plain = wire.decode(line.decode("ascii"))
    match message:
        case {"refused": str(name), "message": str(text), "option": str(option)}:
            if name == UnknownOption.__name__:
                raise UnknownOption(text, option)
            raise SpaceError(text) if name == SpaceError.__name__ else ProblemError(text)
        case dict():
            described = {name: value for name, value in message.items() if name not in (MISSING, NOTES)}
            return wire.from_message(described, record_type)
        case _:
            raise ProtocolMismatch(
                f"the child that describes the problem answered {message!r:.200}; do not write to its pipe"
            )
