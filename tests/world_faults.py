"""The faults of a simulated world, each kind alone, and the commands of users.

Law of this file: a fault draws from the world's generator alone, and records its action; without a victim it does
nothing. :mod:`tests.world` contains the reaction of the world.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from hpbandster_lite.process.shutdown import REQUEUE
from hpbandster_lite.protocol.messages import CancelRequest, PauseRequest, ResumeRequest, StopRequest

if TYPE_CHECKING:
    from tests.world import World

WorldFault: TypeAlias = "Callable[[World], None]"
DAY_S = 86_400.0


def agent_killed(world: World) -> None:
    worker = world.a_worker()
    if worker is not None:
        world.note(f"{worker.name} is killed")
        world.workers.remove(worker)
        # Sometimes the machine is lost, and no peer sees the end of the connection.
        if world.random.random() < 0.7:
            world.cut(f"{worker.name}#{worker.connections}")


def agent_stopped(world: World) -> None:
    worker = world.a_worker()
    if worker is not None:
        seconds = world.random.choice([2.0, 30.0, 100.0])
        world.note(f"{worker.name} is stopped for {seconds:g} s")
        worker.stopped_until = world.now + seconds


def agent_asked_to_end(world: World) -> None:
    worker = world.a_worker()
    if worker is not None:
        world.note(f"{worker.name} is asked to end")
        if worker.end_request.given is None:
            worker.end_request.is_unexplained = world.random.random() < 0.2
        worker.end_request.given = worker.end_request.given or "its time is over"
        worker.wakes_at = world.now


def agent_preempted(world: World) -> None:
    """Warn an agent that its allocation ends; at the end it is killed if it still runs, and it returns later."""
    worker = world.a_worker()
    if worker is not None and worker.end_request.given is None:
        seconds = world.random.choice([120.0, 120.0, 6.0, 1.0])
        world.note(f"the allocation of {worker.name} ends in {seconds:g} s")
        worker.end_request.given, worker.end_request.exit_code = "its allocation ends", REQUEUE
        worker.ends_by, worker.wakes_at = world.now + seconds, world.now


def worker_doubled(world: World) -> None:
    """Start a worker's job a second time on another machine, under the same name; both continue."""
    worker = world.a_worker()
    if worker is not None and len(world.workers) < world.most_workers + 2:
        world.add_worker(worker.index)


def agents_cut_off(world: World) -> None:
    """Cut off any of the workers, in one direction or both; each reconnects after its own time."""
    workers = world.random.sample(world.workers, world.random.randint(0, len(world.workers)))
    way = world.random.choice(["both", "both", "requests", "answers"])
    seconds = world.random.choice([3.0, 30.0, 90.0, 300.0])
    for worker in workers:
        until = world.now + seconds * world.random.choice([1.0, 1.0, 0.5])
        if way != "answers":
            worker.requests_lost_until = until
        if way != "requests":
            worker.answers_lost_until = until
    if workers:
        names = ", ".join(worker.name for worker in workers)
        world.note(f"the network of {names} is cut, {way}, for {seconds:g} s")


def connection_reset(world: World) -> None:
    worker = world.a_worker()
    if worker is not None and worker.agent.conversation.link is not None:
        world.note(f"a connection of {worker.name} is reset")
        worker.agent.conversation.link.close()


def worker_joins(world: World) -> None:
    if len(world.workers) < world.most_workers:
        world.add_worker()


def master_killed(world: World) -> None:
    world.kill_master()


def master_killed_in_a_commit(world: World) -> None:
    """Kill the master in the commit of the next request that reaches it."""
    world.tears_next = True


def master_stopped(world: World) -> None:
    if world.process is not None:
        seconds = world.random.choice([2.0, 30.0, 100.0])
        world.note(f"the master is stopped for {seconds:g} s")
        world.process.stopped_until = world.now + seconds


def master_doubled(world: World) -> None:
    world.double_master()


def disk_full(world: World) -> None:
    if world.process is not None:
        world.disk_is_full_until = world.now + world.random.choice([3.0, 30.0, 120.0])
        world.note(f"the disk is full until {world.disk_is_full_until:.1f}")
        connection = world.process.journal._connection
        if world.random.random() < 0.5:
            connection.execute("PRAGMA query_only = 1")
        else:
            # No further pages: a commit that needs none succeeds, as on a real disk.
            connection.execute("PRAGMA max_page_count = 1")


def journal_lost(world: World) -> None:
    """Its file is deleted, or a copy that a user made earlier takes its place; the user puts back what was kept."""
    world.lose_journal()


def source_edited(world: World) -> None:
    """A user edits the problem's source, accepts the edit, and starts the search again, at once or after a while."""
    world.source_version += 1
    world.note(f"the source is edited: version {world.source_version}")
    if world.random.random() < 0.7:
        world.command(StopRequest())


def worker_disk_full(world: World) -> None:
    """What its evaluations write finds no room, for a while."""
    worker = world.a_worker()
    if worker is not None:
        worker.disk_is_full_until = world.now + world.random.choice([5.0, 40.0, 200.0])
        world.note(f"the disk of {worker.name} is full until {worker.disk_is_full_until:.1f}")


def clock_gap(world: World) -> None:
    """Suspend the machine with all its processes."""
    seconds = world.random.choice([5.0, 300.0])
    world.note(f"all processes sleep for {seconds:g} s")
    world.now += seconds


def wall_clock_set(world: World) -> None:
    """Set the wall clock of the master to a wrong or to the right time."""
    seconds = world.random.choice([0.0, DAY_S, -DAY_S, 3_600.0, -30.0, 365 * DAY_S])
    world.note(f"the wall clock is off by {seconds:g} s")
    if not world.clocks_obey:
        world.wall_offset_s = seconds


def evaluation_cancelled(world: World) -> None:
    if world.process is not None and world.process.engine.finished is None:
        engine = world.process.engine
        open_ones = [each for each, known in engine.state.evaluations.items() if known.outcome is None]
        if open_ones:
            identity = world.random.choice(open_ones)
            world.note(f"{identity} is cancelled")
            world.command(CancelRequest(evaluation=identity))


def search_paused(world: World) -> None:
    if world.process is not None and world.process.engine.finished is None:
        world.note("the search is paused or resumed")
        world.command(PauseRequest() if world.process.engine.state.paused is None else ResumeRequest())


def search_stopped(world: World) -> None:
    if world.process is not None and world.process.engine.finished is None and world.random.random() < 0.3:
        world.note("the search is stopped")
        world.command(StopRequest())


KINDS: dict[str, tuple[WorldFault, ...]] = {
    "partitions": (agents_cut_off,),
    "pre-emptions": (agent_preempted,),
    "two lives of a job": (worker_doubled, agent_stopped),
    "two masters": (master_doubled, master_doubled, master_stopped),
    # A starting master reads how long the earlier ones served.
    "wrong clocks": (wall_clock_set, wall_clock_set, clock_gap, master_killed),
    "messages": (connection_reset,),
    "full disks": (disk_full,),
    "full disks of workers": (worker_disk_full,),
    "lost journals": (journal_lost, journal_lost),
    "edited sources": (source_edited, master_killed, agents_cut_off, agent_stopped, connection_reset),
    "stops": (agent_stopped, master_stopped),
    "kills": (agent_killed, agent_asked_to_end, master_killed, master_killed_in_a_commit),
    "users": (evaluation_cancelled, search_paused, search_stopped),
}
"""Faults by kind; a world may have only one kind. The world itself draws the fate of messages."""


ALONE = frozenset({"edited sources"})
"""Kinds that no mixed world has: an edit ends the search and its workers, and leaves little to other faults."""


def faults_of(kind: str | None) -> tuple[WorldFault, ...]:
    """The faults of one kind, or of all kinds; workers join in each.

    Raises
    ------
    KeyError
        If there is no such kind.
    """
    if kind is not None:
        return (*KINDS[kind], worker_joins)
    different = dict.fromkeys(fault for name, each in KINDS.items() if name not in ALONE for fault in each)
    return (*different, worker_joins, worker_joins, worker_joins)
