"""The faults: the effect of each kind on the scene, and the action that ends it.

Law of this file: a fault that finds no victim (no master serves, the host already has a fault) is deferred, not
skipped. A lasting fault is undone after its time, in any state of its victim.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

import psutil

from tests.chaos.plan import Fault
from tests.chaos.scene import FIRST_WORKER_HOST, LEASE_S, MASTER_HOST, Part, Scene
from tests.service.disks import fill

Undo = Callable[[], None]
DONE: Undo = lambda: None  # noqa: E731  (a fault that is over at once)


class Breaker:
    """Injects faults into a scene, and undoes those that last.

    Parameters
    ----------
    scene
        The scene whose processes, hosts, disk and clocks get the faults.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._lasting: list[tuple[float, Undo]] = []
        self._broken_hosts: set[int] = set()
        self._stopped: set[int] = set()
        self._days = 0

    def apply(self, fault: Fault, now: float) -> bool:
        """Inject a fault; return whether it found a victim."""
        undo: Undo | None = getattr(self, f"_{fault.kind}")(fault)
        if undo is None:
            return False
        if undo is not DONE:
            self._lasting.append((now + fault.lasts_s, undo))
        return True

    def undo_due(self, now: float) -> None:
        """End the faults whose time is over."""
        due = [undo for at, undo in self._lasting if at <= now]
        self._lasting = [each for each in self._lasting if each[0] > now]
        for undo in due:
            undo()

    def heal(self) -> None:
        """End all faults."""
        self.undo_due(float("inf"))

    # ---------------------------------------------------------------------------------------------------- its victims

    def _worker(self, fault: Fault) -> Part | None:
        living = [part for part in self._scene.living("worker", twins=True) if part.fate == ""]
        return living[int(fault.victim * len(living))] if living else None

    def _agent_with_trainer(self, fault: Fault) -> tuple[Part, psutil.Process] | None:
        worker = self._worker(fault)
        trainers = [] if worker is None else self._scene.trainers_of(worker)
        return None if worker is None or not trainers else (worker, trainers[0])

    def serving_master(self) -> Part | None:
        """The newest master, once it serves: a fault during its start would only hit its imports."""
        part = self._scene.master
        return part if part is not None and part.fate == "" and "serving run" in part.served.output() else None

    def _kill(self, part: Part) -> Undo:
        part.fate = "killed"
        self._scene.killed.add(part.served.pid)
        with contextlib.suppress(ProcessLookupError):
            part.served.send(signal.SIGKILL)
        return DONE

    def _signal(self, part: Part, number: signal.Signals, fate: str) -> Undo:
        part.fate = fate
        part.served.send(number)
        return DONE

    def _stop(self, process: psutil.Process, fault: Fault) -> Undo | None:
        if process.pid in self._stopped:
            return None
        if fault.lasts_s > LEASE_S:
            # Another fault may kill it meanwhile, between two of its last lines.
            self._scene.killed.add(process.pid)
        try:
            process.suspend()
        except psutil.Error:
            return None
        self._stopped.add(process.pid)

        def undo() -> None:
            self._stopped.discard(process.pid)
            with contextlib.suppress(psutil.Error):
                process.resume()

        return undo

    # ------------------------------------------------------------------------------------------------------- processes

    def _agent_killed(self, fault: Fault) -> Undo | None:
        worker = self._worker(fault)
        return None if worker is None else self._kill(worker)

    def _trainer_killed(self, fault: Fault) -> Undo | None:
        found = self._agent_with_trainer(fault)
        if found is None:
            return None
        self._scene.killed.add(found[1].pid)
        with contextlib.suppress(psutil.Error):
            found[1].kill()
        return DONE

    def _master_killed(self, fault: Fault) -> Undo | None:
        del fault
        master = self.serving_master()
        return None if master is None else self._kill(master)

    def _nameserver_killed(self, fault: Fault) -> Undo | None:
        del fault
        living = self._scene.living("nameserver")
        return self._kill(living[0]) if living else None

    def _machine_lost(self, fault: Fault) -> Undo | None:
        """Kill all workers of a host at once, with their trainers; on loopback, every second worker."""
        first = self._worker(fault)
        if first is None:
            return None
        for worker in self._scene.living("worker", twins=True):
            if worker.host == first.host and worker.index % 2 == first.index % 2:
                for trainer in self._scene.trainers_of(worker):
                    self._scene.killed.add(trainer.pid)
                    with contextlib.suppress(psutil.Error):
                        trainer.kill()
                self._kill(worker)
        return DONE

    def _agent_stopped(self, fault: Fault) -> Undo | None:
        worker = self._worker(fault)
        return None if worker is None else self._stop(psutil.Process(worker.served.pid), fault)

    def _trainer_stopped(self, fault: Fault) -> Undo | None:
        found = self._agent_with_trainer(fault)
        return None if found is None else self._stop(found[1], fault)

    def _master_stopped(self, fault: Fault) -> Undo | None:
        master = self.serving_master()
        return None if master is None else self._stop(psutil.Process(master.served.pid), fault)

    def _agent_asked_to_end(self, fault: Fault) -> Undo | None:
        worker = self._worker(fault)
        return None if worker is None else self._signal(worker, signal.SIGTERM, "asked to end")

    def _agent_preempted(self, fault: Fault) -> Undo | None:
        worker = self._worker(fault)
        # Before the worker handles signals it has nothing to hand back, and the default action is right.
        if worker is None or not self._scene.trainers_of(worker):
            return None
        return self._signal(worker, signal.SIGUSR2, "preempted")

    def _master_preempted(self, fault: Fault) -> Undo | None:
        del fault
        master = self.serving_master()
        return None if master is None else self._signal(master, signal.SIGUSR2, "preempted")

    def _worker_doubled(self, fault: Fault) -> Undo | None:
        """Start the same job a second time, under the same name, while the first still runs."""
        worker = self._worker(fault)
        if worker is None or len(self._scene.living("worker", twins=True)) >= self._scene.n_workers + 2:
            return None
        return DONE if self._scene.started("worker", worker.index, is_twin=True) else None

    def _master_doubled(self, fault: Fault) -> Undo | None:
        """Start a second master, which does not see the lock of the first; the first is stopped or continues."""
        master = self.serving_master()
        if master is None or self._scene.living("master", twins=True) != [master]:
            return None
        master.is_twin, master.fate = True, "replaced"
        undo = self._stop(psutil.Process(master.served.pid), fault) if fault.strength > 0 else DONE
        self._scene.directory.lock_file.unlink(missing_ok=True)
        self._scene.coming.append((0.0, "master", 0))
        return undo or DONE

    # ----------------------------------------------------------------------------------------------------------- links

    def _broken(self, host: int, what: str, value: int | None = None) -> Undo | None:
        hosts = self._scene.hosts
        if hosts is None or host in self._broken_hosts:
            return None
        self._broken_hosts.add(host)
        hosts.fault(host, what, value)

        def undo() -> None:
            self._broken_hosts.discard(host)
            hosts.heal(host)

        return undo

    def _a_host(self, fault: Fault) -> int:
        return FIRST_WORKER_HOST + int(fault.victim * self._scene.n_worker_hosts)

    def _worker_silent(self, fault: Fault) -> Undo | None:
        return self._broken(self._a_host(fault), "silent")

    def _worker_requests_lost(self, fault: Fault) -> Undo | None:
        return self._broken(self._a_host(fault), "mute")

    def _worker_answers_lost(self, fault: Fault) -> Undo | None:
        return self._broken(self._a_host(fault), "deaf")

    def _worker_unplugged(self, fault: Fault) -> Undo | None:
        return self._broken(self._a_host(fault), "unplug")

    def _worker_lossy(self, fault: Fault) -> Undo | None:
        return self._broken(self._a_host(fault), "loss", fault.strength)

    def _worker_throttled(self, fault: Fault) -> Undo | None:
        return self._broken(self._a_host(fault), "rate", fault.strength)

    def _worker_dropped(self, fault: Fault) -> Undo | None:
        endpoint = self._scene.directory.read_endpoint()
        return None if endpoint is None else self._broken(self._a_host(fault), "drop", endpoint["port"])

    def _worker_reset(self, fault: Fault) -> Undo | None:
        endpoint = self._scene.directory.read_endpoint()
        return None if endpoint is None else self._broken(self._a_host(fault), "reset", endpoint["port"])

    def _master_silent(self, fault: Fault) -> Undo | None:
        del fault
        return self._broken(MASTER_HOST, "silent")

    def _master_lossy(self, fault: Fault) -> Undo | None:
        return self._broken(MASTER_HOST, "loss", fault.strength)

    def _half_partitioned(self, fault: Fault) -> Undo | None:
        """Cut off half of the workers' hosts at once, and reconnect them at once."""
        del fault
        half = range(FIRST_WORKER_HOST, FIRST_WORKER_HOST + (self._scene.n_worker_hosts + 1) // 2)
        if self._broken_hosts & set(half):
            return None
        undone = [self._broken(host, "silent") for host in half]

        def undo() -> None:
            for each in undone:
                if each is not None:
                    each()

        return undo

    # -------------------------------------------------------------------------------------------------- disk and clocks

    def _disk_full(self, fault: Fault) -> Undo | None:
        del fault
        disk = self._scene.directory.path.parent
        if (disk / "filler").exists():
            return None
        return fill(disk).unlink

    def _master_clock_jumps(self, fault: Fault) -> Undo | None:
        clock = self._scene.master_clock
        if clock is None:
            return None
        self._days += fault.strength
        clock.jump(self._days)
        return DONE

    def _worker_clock_jumps(self, fault: Fault) -> Undo | None:
        clock = self._scene.worker_clock
        if clock is None:
            return None
        clock.jump(int(fault.victim * 10) * fault.strength)
        return DONE
