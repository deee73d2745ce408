"""Under any faults (kills, lost and doubled messages, full disks), a search ends and counts each valid result once.

``tests/world.py`` simulates a history, ``tests/world_faults.py`` defines its faults: each kind alone, or all of them
mixed. A failure names its seed and repeats exactly::

    python -c 'from tests.world import World; World(seed=7, kind="partitions").run()'

``WORLDS=3000 pytest -m slow tests/unit/test_world.py`` simulates 3,000 histories of each kind.
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
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.grants import grant_of
from hpbandster_lite.engine.leases import Leases
from hpbandster_lite.engine.state import State
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.calls import Master
from hpbandster_lite.records import ConfigId, Entry, EvaluationId, Expired, ExpiryKind, Leased, Recorded, Sampled
from hpbandster_lite.rundir import RunDirectory
from tests import world_trainer
from tests.world import Broken, World, left_worlds
from tests.world_faults import KINDS, faults_of
from tests.world_master import FakeServer

SEEDS = range(80)
OF_EACH_KIND = range(8)
MANY = range(1_000, 1_000 + int(os.environ.get("WORLDS", "3000")))
MARKS = {
    "partitions": ("silences",),
    "pre-emptions": ("pre-empted in time", "back", "continued"),
    "two lives of a job": ("worker_doubled", "silences"),
    "two masters": ("fenced", "silences"),
    "wrong clocks": ("wall_clock_set", "clock_gap"),
    "messages": ("silences", "late copies"),
    "full disks": ("disk_full",),
    "lost journals": ("lost and restored",),
    "edited sources": ("accepted edits", "masters"),
    "full disks of workers": ("no room", "handed back refused"),
    "stops": ("silences",),
    "kills": ("torn", "masters"),
    "users": ("commands", "stopped"),
}
"""The count that shows that a kind of fault occurred."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence the logs of agents and masters; a history that breaks prints its own events."""
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
    # The claim includes that every kind of fault occurred and had an effect.
    for fault in faults_of(None):
        assert counts[fault.__name__] > 10, fault
    for what in (
        "silences", "late copies", "torn", "fenced", "stopped", "put back", "handed back ordered",
        "handed back unordered", "proven dead", "proven stopped",
    ):
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
    fingerprints = {
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
    assert fingerprints == {f"{World(6).run().fingerprint()}\n"}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", KINDS)
def test_every_history_of_one_kind_of_faults_ends_as_well(kind: str) -> None:
    counts: Counter[str] = Counter()
    for seed in OF_EACH_KIND:
        counts += World(seed, kind).run().counts
    for what in (*MARKS[kind], *(fault.__name__ for fault in KINDS[kind])):
        assert counts[what] > 0, (what, counts)
    # Only this kind of fault occurred.
    others = {fault.__name__ for other in KINDS for fault in KINDS[other]}
    assert not others & counts.keys() - {fault.__name__ for fault in KINDS[kind]}


def test_a_wall_clock_that_is_wrong_changes_no_decision() -> None:
    wrong = 0
    for seed in range(1, 6):
        one, other = World(seed, "wrong clocks").run(), World(seed, "wrong clocks", clocks_obey=True).run()
        assert one.entries == other.entries
        wrong += one.wall_offset_s != 0.0
    assert wrong > 1


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_thousands_of_histories(kind: str | None) -> None:
    with ProcessPoolExecutor() as pool:
        outcomes = pool.map(partial(outcome_of, kind=kind), MANY, chunksize=50)
        broken = [each for each in outcomes if each is not None]
    assert not broken, f"{len(broken)} of {len(MANY)} histories broke; the first:\n{broken[0]}"


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_a_history_of_a_thousand_workers() -> None:
    lived = World(3, n_workers=1_000).run()
    assert lived.counts["acknowledged"] > 1_000
    assert lived.counts["silences"] > 100


def outcome_of(seed: int, kind: str | None = None) -> str | None:
    logging.disable(logging.CRITICAL)
    try:
        World(seed, kind).run()
    except Broken as error:
        return str(error)
    return None


# --------------------------------------------------------------------------------------------------- the world itself


def first_broken(seeds: range, kind: str | None = None) -> str:
    """The message of the first of these histories that breaks."""
    for seed in seeds:
        outcome = outcome_of(seed, kind)
        if outcome is not None:
            name = f"World(seed={seed})" if kind is None else f'World(seed={seed}, kind="{kind}")'
            assert outcome.startswith(f"{name}.run() broke: ")
            assert outcome.endswith(f"again: python -c 'from tests.world import World; {name}.run()'")
            return outcome
    raise AssertionError("no history noticed")


def test_a_world_notices_a_lease_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = State._lease

    def careless(self: State, entry: Leased) -> None:
        lease(self, entry)
        self.to_rerun.append(entry.evaluation)

    monkeypatch.setattr(State, "_lease", careless)
    assert "at once: it is lost or doubled" in first_broken(range(5))


def test_a_world_notices_a_result_that_is_forgotten_after_it_was_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Journal.commit

    def forgetful(self: Journal, entries: list[Entry], *, at: float) -> int:
        kept = [entry for entry in entries if not (isinstance(entry, Recorded) and entry.outcome.loss is not None)]
        return commit(self, kept, at=at)

    monkeypatch.setattr(Journal, "commit", forgetful)
    outcome = first_broken(range(5))
    assert "acknowledged and lost" in outcome or "of the journal" in outcome or "replay gives another state" in outcome


def test_a_world_notices_an_answer_that_is_given_before_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: FakeServer, timeout_s: float, *, commit: object) -> int:
        assert self.master is not None
        boxes, self.inbox = self.inbox, []
        for box in boxes:
            box.text, box.is_sent = self.master.handle(box.call), True
        return len(boxes)

    monkeypatch.setattr(FakeServer, "turn", hasty)
    commit = Master.commit
    monkeypatch.setattr(Master, "commit", lambda self: len(self._pending) < 40 or commit(self))
    assert "acknowledged and lost" in first_broken(range(1, 20))


def test_a_world_notices_a_lease_that_is_lost_while_its_master_did_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "lengthen", lambda self, gap_s: None)
    assert "lost its lease after" in first_broken(range(40))


def test_a_world_notices_a_lease_that_is_lost_because_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Master, "is_stalled", property(lambda self: False))
    assert "lost its lease after" in first_broken(range(30, 90))


def test_a_world_notices_a_journal_that_is_lost_while_its_master_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "_look", lambda self: None)
    message = first_broken(range(5), "lost journals")
    assert "there is no journal" in message or "acknowledged and lost" in message


def test_a_world_notices_a_pause_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpbandster_lite.engine.decisions.why_on_hold", lambda state: None)
    outcome = first_broken(range(40))
    assert "a paused search granted work" in outcome or "more run than max_concurrent" in outcome


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

    def merciless(self: Engine, agent: str, kind: ExpiryKind, reason: str, *points: Any) -> tuple[Entry, ...]:
        entries = end(self, agent, kind, reason, *points)
        return tuple(entry for entry in entries if not isinstance(entry, Expired))

    monkeypatch.setattr(Engine, "_end", merciless)
    outcome = first_broken(range(20))
    assert "of the journal" in outcome or "replay gives another state" in outcome


def test_a_world_notices_a_proposal_that_was_not_the_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = Engine._sampled

    def rounded(self: Engine, config_id: ConfigId, time_left_s: float | None) -> tuple[Entry, ...]:
        (entry,) = sampled(self, config_id, time_left_s)
        if not isinstance(entry, Sampled):
            return (entry,)
        # Like a journal that stores six digits.
        vector = tuple(None if u is None else round(u, 6) for u in entry.proposal.vector)
        return (replace(entry, proposal=replace(entry.proposal, vector=vector)),)

    monkeypatch.setattr(Engine, "_sampled", rounded)
    outcome = first_broken(range(20))
    assert "proposed differently: coordinate of" in outcome or "replay gives another state" in outcome


def test_a_world_notices_a_master_that_commits_after_it_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfenced(self: Journal) -> int:
        return int(self._connection.execute("SELECT coalesce(max(position), 0) FROM entries").fetchone()[0])

    monkeypatch.setattr(Journal, "_last_position", unfenced)
    assert "a replaced master has committed" in first_broken(range(40), "two masters")


def test_a_world_notices_a_master_that_does_not_know_what_was_committed_while_it_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = Journal.entries
    monkeypatch.setattr(Journal, "entries", lambda self, after=0: iter(()) if after else entries(self))
    outcome = first_broken(range(30), "two masters")
    assert "InvariantBroken('entry " in outcome or "refused to write the journal: UNIQUE constraint" in outcome


def test_a_world_notices_a_checkpoint_that_was_handed_back_and_is_not_continued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = "hpbandster_lite.engine.engine.grant_of"
    monkeypatch.setattr(target, lambda *given: replace(grant_of(*given), earlier=()))
    assert "does not continue from" in first_broken(range(20), "pre-emptions")


def test_a_world_notices_a_checkpoint_of_another_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    place = RunDirectory.attempt_path
    shared = EvaluationId(ConfigId(0, 0, 0), 0)
    monkeypatch.setattr(RunDirectory, "attempt_path", lambda self, evaluation, attempt, _: place(self, shared, attempt))
    assert "is to continue from a checkpoint of" in first_broken(range(20), "pre-emptions")


def test_a_world_notices_a_loss_that_is_another_evaluation_s(monkeypatch: pytest.MonkeyPatch) -> None:
    loss_of = world_trainer.loss_of
    given: list[float] = []

    def swapped(values: Any, budget: float) -> float:
        # The test asks for the true loss after all evaluations have ended; then the function returns it.
        given.append(loss_of(values, budget))
        return given[-2] if len(given) == 5 else given[-1]

    monkeypatch.setattr(world_trainer, "loss_of", swapped)
    outcome = outcome_of(3, "messages")
    assert outcome is not None
    assert "has the loss of another evaluation" in outcome


def test_a_world_notices_a_decision_that_depends_on_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal.open.__func__  # type: ignore[attr-defined]  # a class method
    without_clock = classmethod(lambda cls, path, *, create=None, **_: opened(cls, path, create=create))
    monkeypatch.setattr(Journal, "open", without_clock)
    with pytest.raises(AssertionError):
        test_a_wall_clock_that_is_wrong_changes_no_decision()


def test_what_a_world_leaves_behind_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import world

    monkeypatch.setattr(world, "MEMORY", tmp_path)
    with left_worlds() as left:
        (tmp_path / f"{world.PREFIX}x").mkdir()
    assert left == [tmp_path / f"{world.PREFIX}x"]
    assert not left[0].exists()
