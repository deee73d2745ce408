"""Which addresses of this machine clients get, and in which order."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.transport import network_interfaces
from hpbandster_lite.transport.name_registry import MOST_OFFERED
from hpbandster_lite.transport.network_interfaces import interface_addresses, offered_addresses, reachable_addresses

V4, V6 = socket.AF_INET, socket.AF_INET6
ALL = "0.0.0.0"  # noqa: S104 (nothing listens)


def address(family: int, text: str) -> SimpleNamespace:
    return SimpleNamespace(family=family, address=text)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks, one of them with the default route, a bridge that is down, and loopback."""
    known = {
        "lo": [address(V4, "127.0.0.1"), address(V6, "::1")],
        "eth0": [address(V6, "fe80::1%eth0"), address(V6, "fd00::5"), address(V4, "192.168.0.5")],
        "ib0": [address(V4, "10.1.0.5")],
        "docker0": [address(V4, "172.17.0.1")],
        "bare": [address(psutil.AF_LINK, "00:00:00:00:00:00")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: known)
    up = {name: SimpleNamespace(isup=name != "docker0") for name in known}
    monkeypatch.setattr(psutil, "net_if_stats", lambda: up)
    monkeypatch.setattr(network_interfaces, "_towards", lambda family: "10.1.0.5" if family == V4 else None)


@pytest.mark.usefixtures("machine")
def test_an_interface_has_its_addresses_ipv4_first_and_none_of_its_link_alone() -> None:
    assert interface_addresses("eth0") == ["192.168.0.5", "fd00::5"]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("name", "words"), [("eth1", ("eth1", "eth0", "192.168.0.5")), ("bare", ("bare", "--host"))])
def test_an_interface_that_cannot_be_listened_on_is_refused_with_what_can(name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        interface_addresses(name)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("bound", "reachable"),
    [
        (["10.1.0.5"], ["10.1.0.5"]),
        ([ALL], ["10.1.0.5", "127.0.0.1", "192.168.0.5"]),
        (["::"], ["10.1.0.5", "127.0.0.1", "::1", "192.168.0.5", "fd00::5"]),
        (["192.168.0.5", "fd00::5"], ["192.168.0.5", "fd00::5"]),
    ],
)
def test_all_addresses_are_those_of_interfaces_that_are_up_the_default_route_first(
    bound: list[str], reachable: list[str]
) -> None:
    assert reachable_addresses(bound) == reachable


def test_no_more_are_offered_than_a_client_can_try(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [address(V4, f"10.0.0.{number}") for number in range(100)]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": many})
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {"eth0": SimpleNamespace(isup=True)})
    assert len(reachable_addresses([ALL])) == MOST_OFFERED


BOTH = ["10.1.0.5", "127.0.0.1", "192.168.0.5"]


@pytest.mark.parametrize(
    ("reachable", "hosts", "certified", "offered"),
    [
        (BOTH, [ALL], None, ["10.1.0.5", "192.168.0.5"]),
        (["127.0.0.1"], ["127.0.0.1"], None, ["127.0.0.1"]),
        (BOTH, [ALL], ["192.168.0.5", "127.0.0.1", "::1"], ["192.168.0.5"]),
        (BOTH, [ALL], ["head", "localhost", "127.0.0.1"], ["head", "127.0.0.1"]),
        (BOTH, [ALL], ["head", "10.1.0.5"], ["10.1.0.5", "head"]),
        (["10.1.0.5"], ["HEAD"], ["head", "other"], ["HEAD", "head", "other"]),
        (["127.0.0.1"], ["127.0.0.1"], ["head", "localhost", "127.0.0.1"], ["127.0.0.1"]),
        (["fd00::5"], ["fd00::5"], ["fd00:0::5"], ["fd00::5"]),
        (["10.1.0.5"], ["10.1.0.5"], ["127.0.0.1", "localhost"], []),
        (["127.0.0.1"], ["127.0.0.1"], ["head"], []),
    ],
)
def test_what_is_offered_is_in_the_certificate_and_loopback_where_there_is_no_other(
    reachable: list[str], hosts: list[str], certified: list[str] | None, offered: list[str]
) -> None:
    assert offered_addresses(reachable, hosts, certified) == offered


def test_this_machine_has_addresses_that_can_be_listened_on() -> None:
    for found in reachable_addresses([ALL]):
        with socket.socket() as probe:
            probe.bind((found, 0))
