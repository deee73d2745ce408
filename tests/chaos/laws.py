"""The laws that must hold after chaos, checked in the journal and in the logs of the objective.

Law of this file: it only reads; each broken law is one sentence with the evaluation that broke it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import SearchError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Expired,
    ExpiryKind,
    LateReport,
    Leased,
    Recorded,
    Released,
    Sampled,
    SetAside,
    Started,
)
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.space import SearchSpace
from tests.chaos.problem import loss_of
from tests.engine_room import engine_for, snapshot

Attempt = tuple[EvaluationId, int]
LEFT = re.compile(r"the result of evaluation (\S+) (waits for the next master|is lost)")


class Durable:
    """Reads the journal repeatedly: an entry that it has seen stays, unchanged.

    Parameters
    ----------
    journal
        The file of the journal.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._seen: list[str] = []

    def look(self) -> None:
        """Record new entries; none while the journal cannot be read."""
        with contextlib.suppress(sqlite3.Error):
            self._seen += [_digest(text) for text in _texts(self._journal, len(self._seen))]

    def broken(self) -> Iterator[str]:
        """Whether a recorded entry is missing or has changed."""
        now = [_digest(text) for text in _texts(self._journal, 0)]
        for position, (then, is_now) in enumerate(zip(self._seen, now, strict=False), 1):
            if then != is_now:
                yield f"entry {position} of the journal is another one than it was"
                return
        if len(now) < len(self._seen):
            yield f"the journal had {len(self._seen)} entries and has {len(now)}"


def _texts(journal: Path, after: int) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=5.0)) as connection:
        rows = connection.execute("SELECT entry FROM entries WHERE position > ? ORDER BY position", (after,))
        return [text for (text,) in rows]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass
class Figures:
    """Counts of what happened."""

    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{sum(self.faults.values())} faults in {self.seconds:.0f} s"]
        for title, counted in (("faults", self.faults), ("search", self.counts), ("exit codes", self.exits)):
            figures = ", ".join(f"{what} {count}" for what, count in sorted(counted.items()))
            lines.append(f"  {title}: {figures}")
        return "\n".join(lines)


def broken_laws(
    directory: RunDirectory, logs: Path, agent_logs: str, silenced: set[int], durable: Durable, counts: Counter[str]
) -> list[str]:
    """Every law that does not hold, as a sentence.

    Parameters
    ----------
    directory
        The run directory of a search that is over.
    logs
        Directory of the objective's logs.
    agent_logs
        All lines that the agents logged.
    silenced
        Process ids of agents and trainers that were killed before they could log their end.
    durable
        The record of the journal during the run.
    counts
        Counts, to which this function adds.
    """
    reader = JournalReader(directory.journal)
    entries = [entry for _, _, entry in reader.entries()]
    lines = list(_lines(logs))
    count(entries, lines, counts)
    broken = [*durable.broken(), *_replayed(reader, entries), *_outcomes(entries), *_losses(entries, lines)]
    broken += [*_attempts(lines), *_kept(entries, lines, agent_logs, silenced, counts)]
    if reader.finished() is None:
        broken.append("the search has not ended")
    try:
        verification = verify_run(directory)
        broken += [] if verification.holds else [f"verify: {verification.summary}"]
    except SearchError as error:
        broken.append(f"verify: {error}")
    return broken


def _lines(logs: Path) -> Iterator[dict[str, Any]]:
    for log in sorted(logs.glob("*.jsonl")):
        for line in log.read_text("utf-8").splitlines():
            event = json.loads(line)
            (config_id, rung) = event["evaluation"]
            event["of"] = EvaluationId(ConfigId(*config_id), rung), event["attempt"]
            yield event


def count(entries: list[Entry], lines: list[dict[str, Any]], counts: Counter[str]) -> None:
    """Count the figures of a run."""
    for entry in entries:
        match entry:
            case Recorded(outcome=outcome):
                counts["recorded"] += 1
                counts["failed"] += outcome.loss is None
            case Leased(attempt=attempt):
                counts["leased"] += 1
                counts["leased again"] += attempt > 1
            case Expired(kind=kind):
                is_without_report = kind in (ExpiryKind.SILENT, ExpiryKind.DEAD, ExpiryKind.STOPPED)
                counts["leases that ran out" if is_without_report else "attempts lost"] += 1
            case Released():
                counts["handed back"] += 1
            case LateReport():
                counts["late results"] += 1
            case Started():
                counts["masters"] += 1
            case _:
                pass
    counts["continued from a checkpoint of another attempt"] += sum(
        line["what"] == "begun" and line["resumed"] for line in lines
    )


def _replayed(reader: JournalReader, entries: list[Entry]) -> Iterator[str]:
    """No configuration is lost, no place filled twice, no evaluation leased twice: the engine refuses such entries."""
    settings = reader.settings()
    engine = engine_for(settings, SearchSpace.from_json(settings.problem.space_tables))
    again = engine_for(settings, SearchSpace.from_json(settings.problem.space_tables))
    try:
        for number, entry in enumerate(entries):
            engine.apply(entry)
            if number % 100 == 0:
                engine.validate()
        engine.validate()
        again.replay(entries)
    except SearchError as error:
        yield f"the journal cannot be replayed: {error}"
        return
    if snapshot(engine) != snapshot(again):
        yield "two replays of the journal give different states"
    for identity, evaluation in engine.state.evaluations.items():
        if evaluation.outcome is None:
            yield f"{identity} has no outcome"
    if engine.state.held_by:
        yield f"leases are left: {engine.state.held_by}"


def _outcomes(entries: list[Entry]) -> Iterator[str]:
    """Each evaluation has one outcome and does not run again after it; each configuration is sampled once."""
    ended: set[EvaluationId] = set()
    holder: dict[EvaluationId, str] = {}
    sampled: set[ConfigId] = set()
    for entry in entries:
        match entry:
            case Sampled(config_id=config_id):
                if config_id in sampled:
                    yield f"the slot of {config_id} was filled twice"
                sampled.add(config_id)
            case Recorded(evaluation=identity):
                if identity in ended:
                    yield f"{identity} has two outcomes"
                ended.add(identity)
                holder.pop(identity, None)
            case Leased(evaluation=identity, agent=agent):
                if identity in ended:
                    yield f"{identity} was run again after its result"
                if identity in holder:
                    yield f"{identity} is held by {holder[identity]} and by {agent}"
                holder[identity] = agent
            case Expired(evaluation=identity) | Released(evaluation=identity) | SetAside(evaluation=identity):
                holder.pop(identity, None)
            case _:
                pass


def _losses(entries: list[Entry], lines: list[dict[str, Any]]) -> Iterator[str]:
    """Each loss is the objective's loss of this configuration and budget, logged in this very attempt."""
    values = {entry.config_id: entry.proposal.values for entry in entries if isinstance(entry, Sampled)}
    gave = {line["of"]: line["loss"] for line in lines if line["what"] == "ended"}
    budgets = (1.0, 3.0, 9.0)
    for entry in entries:
        if not isinstance(entry, Recorded | LateReport) or entry.outcome.loss is None:
            continue
        config_id, rung = entry.evaluation
        expected = {loss_of(values[config_id], budget) for budget in budgets}
        if entry.outcome.loss not in expected:
            yield f"the loss of {entry.evaluation} is {entry.outcome.loss}, of rung {rung}: {expected}"
        elif gave.get((entry.evaluation, entry.attempt)) != entry.outcome.loss:
            given = gave.get((entry.evaluation, entry.attempt))
            yield f"attempt {entry.attempt} at {entry.evaluation} gave {given}, and {entry.outcome.loss} is recorded"
    for entry in entries:
        failure = entry.outcome.failure if isinstance(entry, Recorded) else None
        if failure is not None:
            yield f"an evaluation failed that cannot: {failure.kind.value}, {failure.reason}\n{failure.traceback}"


def _attempts(lines: list[dict[str, Any]]) -> Iterator[str]:
    """No attempt is begun twice, so no two write into one directory."""
    begun = Counter(line["of"] for line in lines if line["what"] == "begun")
    for (evaluation, attempt), times in begun.items():
        if times > 1:
            yield f"attempt {attempt} at {evaluation} was begun {times} times"


def _kept(
    entries: list[Entry], lines: list[dict[str, Any]], agent_logs: str, silenced: set[int], counts: Counter[str]
) -> Iterator[str]:
    """Each result of an objective is in the journal, as an outcome or as late, unless its agent was killed first."""
    known = {(entry.evaluation, entry.attempt) for entry in entries if isinstance(entry, Recorded | LateReport)}
    left = {name for name, _ in LEFT.findall(agent_logs)}
    for line in lines:
        if line["what"] != "ended" or line["of"] in known:
            continue
        if line["agent"] in silenced or line["trainer"] in silenced:
            counts["results lost with a killed process"] += 1
        elif str(line["of"][0]) in left:
            counts["results left behind on a host without the run directory"] += 1
        else:
            yield f"attempt {line['attempt']} at {line['of'][0]} had ended, and its result is nowhere"
