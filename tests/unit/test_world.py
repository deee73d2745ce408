"""Whatever dies, is lost, delayed, doubled, stopped or full: the search ends, and every good result counted once.

``tests/world.py`` says what a history is. A failure names its seed and repeats exactly::

    python -c "from tests.world import World; World(seed=7).run()"
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.engine import Engine
from hpbandster_lite.engine.leases import Leases
from hpbandster_lite.engine.state import State
from hpbandster_lite.journal import Journal
from hpbandster_lite.master import Master
from hpbandster_lite.records import ConfigId, Entry, Expired, Leased, Recorded, Sampled
from tests.world import HAPPENINGS, Broken, World, left_worlds

SEEDS = range(60)
MANY = range(1_000, 1_000 + int(os.environ.get("WORLDS", "3000")))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Agents and masters log what happens to them; a history tells it itself when it breaks."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(180)  # 4 s of one idle core; on a crowded machine it may be a minute
def test_every_history_ends_with_each_result_counted_once_and_every_decision_verified() -> None:
    counts: Counter[str] = Counter()
    with left_worlds() as left:
        for seed in SEEDS:
            counts += World(seed).run().counts
    assert not left
    # That every kind of fault was there, and mattered, is part of the claim.
    for happening in HAPPENINGS:
        assert counts[happening.__name__] > 10, happening
    for what in ("silences", "late copies", "torn", "fenced", "stopped", "put back"):
        assert counts[what] > 2, (what, counts)
    assert counts["given back"] > 0, counts
    assert counts["masters"] > 2 * len(SEEDS)


def test_a_seed_gives_the_same_history_again() -> None:
    for seed in (3, 5, 11):
        one, other = World(seed).run(), World(seed).run()
        assert list(one.story) == list(other.story)
        assert one.fingerprint() == other.fingerprint()


def test_a_seed_gives_the_same_history_whatever_order_sets_have() -> None:
    script = "import logging; logging.disable(50); from tests.world import World; print(World(6).run().fingerprint())"
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert told == {f"{World(6).run().fingerprint()}\n"}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_thousands_of_histories() -> None:
    with ProcessPoolExecutor() as pool:
        broken = [told for told in pool.map(outcome_of, MANY, chunksize=50) if told is not None]
    assert not broken, f"{len(broken)} of {len(MANY)} histories broke; the first:\n{broken[0]}"


def outcome_of(seed: int) -> str | None:
    logging.disable(logging.CRITICAL)
    try:
        World(seed).run()
    except Broken as error:
        return str(error)
    return None


# --------------------------------------------------------------------------------------------------- the world itself


def first_broken(seeds: range) -> str:
    """What the first of these histories that breaks says."""
    for seed in seeds:
        told = outcome_of(seed)
        if told is not None:
            assert told.startswith(f"World(seed={seed}).run() broke: ")
            return told
    raise AssertionError("no history noticed")


def test_a_world_notices_a_lease_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = State._lease

    def careless(self: State, entry: Leased) -> None:
        lease(self, entry)
        self.again.append(entry.evaluation)

    monkeypatch.setattr(State, "_lease", careless)
    assert "at once: it is lost or doubled" in first_broken(range(5))


def test_a_world_notices_a_result_that_is_forgotten_after_it_was_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Journal.commit

    def forgetful(self: Journal, entries: list[Entry], *, at: float) -> int:
        kept = [entry for entry in entries if not (isinstance(entry, Recorded) and entry.outcome.loss is not None)]
        return commit(self, kept, at=at)

    monkeypatch.setattr(Journal, "commit", forgetful)
    told = first_broken(range(5))
    assert "acknowledged and lost" in told or "of the journal" in told or "replay gives another state" in told


def test_a_world_notices_an_answer_that_is_given_before_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import world

    def hasty(self: world.FakeServer, timeout_s: float, *, commit: object) -> int:
        assert self.master is not None
        boxes, self.inbox = self.inbox, []
        for box in boxes:
            box.text, box.is_sent = self.master.handle(box.call), True
        return len(boxes)

    monkeypatch.setattr(world.FakeServer, "turn", hasty)
    commit = Master.commit
    monkeypatch.setattr(Master, "commit", lambda self: len(self._pending) < 40 or commit(self))
    assert "acknowledged and lost" in first_broken(range(20))


def test_a_world_notices_a_lease_that_is_lost_while_nobody_listened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "lengthen", lambda self, gap_s: None)
    assert "lost its lease after" in first_broken(range(40))


def test_a_world_notices_a_lease_that_is_lost_because_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Master, "is_stalled", property(lambda self: False))
    assert "lost its lease after" in first_broken(range(30, 90))


def test_a_world_notices_a_pause_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpbandster_lite.engine.decisions.held_up", lambda state: None)
    told = first_broken(range(40))
    assert "a paused search handed out work" in told or "more run than max_concurrent" in told


def test_a_world_notices_two_agents_at_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    require = State._require

    def lenient(self: State, holds: bool, story: str) -> None:
        require(self, holds or story.startswith("attempt "), story)

    monkeypatch.setattr(State, "_require", lenient)
    leased = Engine._leased

    def first_again(self: Engine, *arguments: Any) -> tuple[Any, ...]:
        (entry,) = leased(self, *arguments)
        assert isinstance(entry, Leased)
        known = self.state.evaluations[entry.evaluation]
        known.attempts = 1
        self._leases.open(entry.agent, entry.evaluation, 1, arguments[-1])
        return (replace(entry, attempt=1),)

    monkeypatch.setattr(Engine, "_leased", first_again)
    assert "World(seed=" in first_broken(range(40))


def test_a_world_notices_an_attempt_that_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    end = Engine._end

    def merciless(self: Engine, agent: str, reason: str) -> tuple[Entry, ...]:
        entries = end(self, agent, reason)
        return tuple(entry for entry in entries if not isinstance(entry, Expired))

    monkeypatch.setattr(Engine, "_end", merciless)
    told = first_broken(range(20))
    assert "of the journal" in told or "replay gives another state" in told


def test_a_world_notices_a_proposal_that_was_not_the_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = Engine._sampled

    def rounded(self: Engine, config_id: ConfigId) -> tuple[Entry, ...]:
        (entry,) = sampled(self, config_id)
        if not isinstance(entry, Sampled):
            return (entry,)
        # As a journal would have it that writes six digits.
        vector = tuple(None if u is None else round(u, 6) for u in entry.proposal.vector)
        return (replace(entry, proposal=replace(entry.proposal, vector=vector)),)

    monkeypatch.setattr(Engine, "_sampled", rounded)
    told = first_broken(range(20))
    assert "proposed otherwise: coordinate of" in told or "replay gives another state" in told


def test_what_a_world_leaves_behind_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import world

    monkeypatch.setattr(world, "MEMORY", tmp_path)
    with left_worlds() as left:
        (tmp_path / f"{world.PREFIX}x").mkdir()
    assert left == [tmp_path / f"{world.PREFIX}x"]
    assert not left[0].exists()
