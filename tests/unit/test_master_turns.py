"""A master's turns on a virtual clock: what it must not do after a pause, or while it cannot write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hpbandster_lite import wire
from hpbandster_lite.errors import SourceDiffers
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.turns import Turns
from hpbandster_lite.problems import digest_of
from hpbandster_lite.protocol.messages import CancelRequest, Hello, RenewRequest
from hpbandster_lite.records import ConfigId, EvaluationId, ProblemSource
from hpbandster_lite.rundir import RunDirectory
from tests.engine_room import LADDER, settings_for, space_of
from tests.unit.test_master_resuming import begun, call_of, question
from tests.world_master import Box, FakeServer

LEASED = EvaluationId(ConfigId(0, 0, 0), 0)


class Scene:
    """A master on a virtual clock that has granted one lease, and its disk."""

    def __init__(self, directory: RunDirectory, journal: Journal) -> None:
        self.now = 0.0
        self.directory = directory
        self.lease_s = journal.settings.lease_s
        self._journal = journal
        self.server = FakeServer()
        self.server.master = self.master = begun(directory, journal, clock=lambda: self.now)
        self._turns = Turns(self.server, self.master, clock=lambda: self.now)
        self.ask("a")
        self.turn(0.1)

    def ask(self, agent: str) -> None:
        """An agent asks for work."""
        self.server.inbox.append(Box(call_of(question(agent), f"{agent}#1")))

    def cancel(self, evaluation: EvaluationId) -> None:
        """A user cancels an evaluation."""
        self.server.inbox.append(Box(call_of(CancelRequest(evaluation=evaluation), "user#1")))

    def turn(self, after_s: float) -> None:
        self.now += after_s
        self._turns.take()

    def set_disk(self, *, is_full: bool) -> None:
        self._journal._connection.execute(f"PRAGMA query_only = {int(is_full)}")

    def has_stalled(self) -> bool:
        return self.master.is_stalled

    @property
    def left_s(self) -> float:
        """Seconds until the lease ends."""
        lease = self.master.engine._leases.get("a")
        assert lease is not None
        return lease.deadline - self.now


@contextmanager
def scene_in(path: Path, budgets: tuple[float, ...] = LADDER) -> Iterator[Scene]:
    directory = RunDirectory(path / "run")
    directory.create()
    with Journal.open(directory.journal, create=settings_for(space_of(), budgets=budgets)) as journal:
        yield Scene(directory, journal)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as scene:
        yield scene


def test_a_lease_runs_while_its_master_listens(scene: Scene) -> None:
    before_s = scene.left_s
    scene.turn(1.0)
    assert scene.left_s == pytest.approx(before_s - 1.0)


def test_no_lease_runs_while_the_journal_cannot_be_written_nor_until_it_was_again(scene: Scene) -> None:
    scene.set_disk(is_full=True)
    scene.ask("b")
    scene.turn(0.25)
    assert scene.has_stalled()
    before_s = scene.left_s
    scene.turn(1.0)
    scene.set_disk(is_full=False)
    scene.ask("b")
    scene.turn(1.0)
    assert not scene.has_stalled()
    assert scene.left_s == pytest.approx(before_s)
    scene.turn(1.0)
    assert scene.left_s == pytest.approx(before_s - 1.0)


def test_no_checkpoint_is_deleted_for_a_decision_that_is_not_durable(tmp_path: Path) -> None:
    # One configuration at one budget: with its outcome the rung is complete and nothing continues from it.
    with scene_in(tmp_path, budgets=LADDER[-1:]) as scene:
        checkpoint = scene.directory.attempt_directory(LEASED, 1) / "model.pt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_text("weights")
        scene.set_disk(is_full=True)
        scene.cancel(LEASED)
        for _ in range(3):
            scene.turn(scene.lease_s)
        # After a kill now its successor would not have the command and would continue from this checkpoint.
        assert scene.has_stalled()
        assert checkpoint.exists()
        scene.set_disk(is_full=False)
        for _ in range(3):
            scene.turn(scene.lease_s)
        assert not scene.has_stalled()
        assert not checkpoint.exists()


@pytest.mark.parametrize(("version", "is_refused"), [(1, True), (2, False)])
def test_an_agent_of_an_earlier_master_is_refused_in_mid_evaluation_if_its_source_is_no_longer_accepted(
    version: int, is_refused: bool, scene: Scene
) -> None:
    scene.master._source = ProblemSource(version=2)
    source = digest_of(ProblemSource(version=version), "")
    hello = Hello(agent="a", worker="a", host="here", pid=1, problem="net", source_hash="", source=source)
    heartbeat = call_of(RenewRequest(agent="a", evaluation=LEASED, attempt=1), "a#2")
    box = Box(replace(heartbeat, hello=wire.to_message(hello)))
    scene.server.inbox.append(box)
    scene.turn(0.1)
    assert isinstance(box.error, SourceDiffers) == is_refused
