"""Connections that are reset, answers that are lost, a name server that is down: nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.master import registration
from hpbandster_lite.records import Expired, Leased, Recorded
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.transport import NameServerClient, run_name
from tests.service.local_search import until
from tests.service.served_search import ServedSearch, served_search
from tests.service.wires import Wire

pytestmark = pytest.mark.timeout(120)

# A lost connection shortens a lease to two heartbeats: here these are so long that only the agent ends the lease.
PATIENT = {"lease_s": 60.0, "heartbeat_s": 2.0}


def lead_through(wire: Wire, directory: RunDirectory) -> None:
    """Make workers that start from now on find the master behind a forwarder."""
    endpoint = directory.read_endpoint()
    assert endpoint is not None
    directory.write_endpoint({**endpoint, "port": wire.port})


def port_of(search: ServedSearch) -> int:
    endpoint = search.directory.read_endpoint()
    assert endpoint is not None
    port: int = endpoint["port"]
    return port


# ---------------------------------------------------------------------------------------------------- the connection


def test_a_reset_of_every_connection_doubles_nothing_and_loses_nothing(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        with Wire(port_of(search)) as wire:
            lead_through(wire, search.directory)
            search.hold()
            workers = [search.start_worker(index) for index in range(2)]
            for worker in workers:
                search.wait_working(worker)
            assert wire.connected == 2
            wire.reset()
            until(lambda: wire.connected == 4, "both workers are connected again")
            search.hold(False)
            for count in (4, 8):
                search.wait_recorded(count)
                wire.reset()
            for process in (*workers, master):
                process.ends(0)
        assert not search.of(Expired)
        assert {entry.attempt for entry in search.of(Leased)} == {1}
        search.check()


def test_answers_that_are_lost_on_the_way_lease_nothing_twice(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        # Also welcomes are lost: each reconnection needs one.
        with Wire(port_of(search), loses_every=5) as wire:
            lead_through(wire, search.directory)
            workers = [search.start_worker(index) for index in range(2)]
            for process in (*workers, master):
                process.ends(0)
            assert wire.lost > 4
        assert not search.of(Expired)
        assert len(search.of(Leased)) == len(search.of(Recorded))
        search.check()


# --------------------------------------------------------------------------------------------------- the name server


def test_a_search_goes_on_without_its_name_server_and_new_workers_find_it_through_the_run_directory(
    tmp_path: Path,
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        names, port = search.start_nameserver()
        master = search.start_master(nameserver=("127.0.0.1", port))
        search.hold()
        first = search.start_worker(0, nameserver=("127.0.0.1", port))
        search.wait_working(first)
        names.kill()
        late = search.start_worker(1, nameserver=("127.0.0.1", port))
        search.wait_working(late)
        master.says("the name server is gone, retrying")
        search.hold(False)
        for process in (first, late, master):
            process.ends(0)
        search.check()


def test_a_worker_without_the_run_directory_waits_for_the_name_server_to_return(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        names, port = search.start_nameserver()
        master = search.start_master(nameserver=("127.0.0.1", port))
        names.kill()
        far = search.start_far_worker(0, tmp_path / "scratch", nameserver=("127.0.0.1", port))
        far.says("trying again")
        search.start_nameserver(port)
        far.ends(0)
        master.ends(0)
        search.check()


def test_a_second_master_of_one_run_at_one_name_server_is_refused_with_the_holder(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        _, port = search.start_nameserver()
        first = search.start_master(nameserver=("127.0.0.1", port))
        search.wait_registered(port)
        copied = search.copied(tmp_path / "copy")
        second = search.start_master(directory=copied, nameserver=("127.0.0.1", port), waits=False)
        output = second.ends(4)
        assert f"is registered for the master at 127.0.0.1:{port_of(search)} (epoch 1)" in output
        assert copied.read_endpoint() is None
        far = search.start_far_worker(0, tmp_path / "scratch", nameserver=("127.0.0.1", port))
        for process in (far, first):
            process.ends(0)
        search.check()


def test_a_master_whose_name_a_later_start_has_taken_logs_it_once_and_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registration, "CHECK_EVERY_S", 0.02)
    monkeypatch.setattr(registration, "RETRY_EVERY_S", 0.02)
    endpoint = {"host": "127.0.0.1", "port": 4_711, "object": "master", "epoch": 1}
    with served_search(tmp_path) as search:
        _, port = search.start_nameserver()
        client = NameServerClient("127.0.0.1", port, None)
        tries: list[str] = []
        register = client.register

        def counted(name: str, endpoint: Mapping[str, Any]) -> None:
            tries.append(name)
            register(name, endpoint)

        monkeypatch.setattr(client, "register", counted)
        entry = registration.Registration(client, run_name("one"), endpoint)
        try:
            until(lambda: entry.state == "registered", "the master is entered")
            with NameServerClient("127.0.0.1", port, None) as later:
                later.register(run_name("one"), {**endpoint, "port": 4_712, "epoch": 2})
            until(lambda: entry.state != "registered", "the master has lost its name")
            seen = len(tries)
            until(lambda: len(tries) > seen + 5, "it was tried again and again")
            assert entry.refusal is None
        finally:
            entry.withdraw()
    assert caplog.text.count("the name server refused the run's entry") == 1
