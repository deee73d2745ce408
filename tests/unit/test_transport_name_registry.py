"""Which master may register under a name, and for how long."""

from __future__ import annotations

import pytest

from hpbandster_lite.errors import (
    MasterUnreachable,
    UsageError,
)
from hpbandster_lite.transport import Endpoint, NameTaken, run_name
from hpbandster_lite.transport.name_registry import MAX_NAMES, STALE_AFTER_S, NameRegistry

RUN = run_name("cifar")
HERE, THERE = Endpoint("10.0.0.1", 4_000, "m"), Endpoint("10.0.0.2", 4_000, "m")


def test_a_master_that_enters_itself_again_changes_nothing() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, HERE, 1, now=5.0)
    assert names.list() == {RUN: HERE}


def test_two_runs_share_a_name_server() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(run_name("digits"), THERE, 1, now=0.0)
    assert names.lookup(RUN) == HERE
    assert names.lookup(run_name("digits")) == THERE


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_living_master_keeps_its_name_and_is_named(epoch: int) -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, HERE, 1, now=20.0)
    with pytest.raises(NameTaken, match=r"10\.0\.0\.1:4000 \(epoch 1\).*choose another run id"):
        names.register(RUN, THERE, epoch, now=20.0 + STALE_AFTER_S)
    assert names.lookup(RUN) == HERE


def test_a_later_start_of_the_run_replaces_the_earlier_one_at_once_and_for_good() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, THERE, 2, now=0.1)
    with pytest.raises(NameTaken):
        names.register(RUN, HERE, 1, now=0.2)
    assert names.lookup(RUN) == THERE


def test_a_master_at_the_registered_endpoint_may_renew_with_any_epoch() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 7, now=0.0)
    names.register(RUN, HERE, 1, now=0.1)
    assert not names.unregister(RUN, HERE, 7)
    assert names.unregister(RUN, HERE, 1)


def test_any_master_may_replace_a_stale_entry() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 7, now=0.0)
    names.register(RUN, THERE, 1, now=STALE_AFTER_S + 0.1)
    assert names.lookup(RUN) == THERE


def test_a_master_takes_back_its_own_entry_and_no_other() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, THERE, 2, now=0.0)
    assert not names.unregister(RUN, HERE, 1)
    assert not names.unregister(RUN, THERE, 1)
    assert names.lookup(RUN) == THERE
    assert names.unregister(RUN, THERE, 2)
    assert not names.unregister(RUN, THERE, 2)


def test_an_unknown_run_is_answered_with_those_that_are_known() -> None:
    names = NameRegistry()
    with pytest.raises(MasterUnreachable, match=r"'cifar'.*none.*is its master running"):
        names.lookup(RUN)
    names.register(run_name("digits"), HERE, 1, now=0.0)
    with pytest.raises(MasterUnreachable, match="it knows: digits"):
        names.lookup(RUN)


@pytest.mark.parametrize("name", ["Pyro.NameServer", "cifar", run_name("a b"), run_name("a\n"), run_name("x" * 300)])
def test_a_name_that_is_none_of_a_run_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="run id"):
        NameRegistry().register(name, HERE, 1, now=0.0)


def test_names_of_the_dead_make_room_when_there_is_none() -> None:
    names = NameRegistry()
    for index in range(MAX_NAMES - 1):
        names.register(run_name(f"dead-{index}"), HERE, 1, now=0.0)
    names.register(run_name("alive"), HERE, 1, now=STALE_AFTER_S)
    assert len(names.register(run_name("new"), HERE, 1, now=STALE_AFTER_S + 1)) == MAX_NAMES - 1
    assert names.list().keys() == {run_name("alive"), run_name("new")}


def test_names_are_bounded() -> None:
    names = NameRegistry()
    for index in range(MAX_NAMES):
        names.register(run_name(str(index)), HERE, 1, now=0.0)
    with pytest.raises(UsageError, match="10,000 names"):
        names.register(RUN, HERE, 1, now=0.0)
    names.register(run_name("0"), HERE, 1, now=0.0)


def test_an_address_with_colons_is_put_in_brackets() -> None:
    assert Endpoint("::1", 1, "m").uri == "PYRO:m@[::1]:1"
    assert Endpoint("host", 1, "m").uri == "PYRO:m@host:1"
