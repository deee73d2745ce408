"""A master that takes over a search has everything that the previous master committed, up to its last moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.journal import Fenced, Journal
from hpbandster_lite.master.calls import Master
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.serving import resume_master
from hpbandster_lite.protocol.messages import ExchangeAnswer, ExchangeRequest, Request, SlotRequest, read_answer
from hpbandster_lite.records import Leased, Limits
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.transport import Call
from tests.engine_room import settings_for, snapshot, space_of


def begun(
    directory: RunDirectory, journal: Journal, clock: Callable[[], float] = time.monotonic, **others: Any
) -> Master:
    prepared = Prepared(settings=journal.settings, limits=Limits(brackets=1), resumed=False)
    options = MasterOptions(run_directory=str(directory.path), prepared=prepared)
    master, _ = resume_master(options, directory, journal, clock=clock, **others)
    return master


def question(agent: str) -> ExchangeRequest:
    """An agent's request for work."""
    return ExchangeRequest(agent=agent, request=1, worker=agent, slots=(SlotRequest(slot=0, wants_lease=True),))


def call_of(request: Request[Any], peer: str) -> Call:
    """A request in the form in which the transport passes it on."""
    return Call(request.method, wire.encode(wire.to_message(request)), peer)


def asked(master: Master, agent: str) -> ExchangeAnswer:
    """The master's answer to a request for work, after its commit."""
    request = question(agent)
    answer = read_answer(request, wire.decode(master.handle(call_of(request, f"{agent}#1"))))
    assert master.commit()
    return answer


def test_what_a_master_commits_while_the_next_one_reads_the_journal_is_known_to_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    settings = settings_for(space_of())
    with Journal.open(directory.journal, create=settings) as one, Journal.open(directory.journal) as two:
        older = begun(directory, one)
        asked(older, "early")
        begin = two.begin_epoch

        def late(**options: int | None) -> int:
            # It has replayed the journal, but has not recorded its epoch yet.
            asked(older, "late")
            return begin(**options)

        monkeypatch.setattr(two, "begin_epoch", late)
        newer = begun(directory, two)
        assert newer.engine.state.held_by.keys() == {"early", "late"}
        with pytest.raises(Fenced):
            asked(older, "too late")
        asked(newer, "third")
        with Journal.open(directory.journal) as three:
            engine = begun(directory, three).engine
        assert [entry.agent for _, _, entry in two.entries() if isinstance(entry, Leased)] == ["early", "late", "third"]
        # The third master adds one entry: its start.
        assert snapshot(engine)["held_by"] == snapshot(newer.engine)["held_by"]
