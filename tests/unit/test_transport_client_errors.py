"""Exceptions of Pyro4 and the network become errors of this package, in one place."""

from __future__ import annotations

import Pyro4.errors
import pytest

from hpbandster_lite.errors import (
    MasterUnreachable,
    NameServerUnreachable,
    NotAuthorised,
    PeerError,
    ProtocolMismatch,
)
from hpbandster_lite.transport import client
from hpbandster_lite.transport.client import MASTER, ServerKind, errors_as_ours


def pyro_errors() -> list[type[Exception]]:
    return [cls for cls in vars(Pyro4.errors).values() if isinstance(cls, type) and issubclass(cls, Exception)]


@pytest.mark.parametrize("cls", pyro_errors())
def test_no_error_of_pyro4_gets_through_the_door(cls: type[Exception]) -> None:
    with pytest.raises(PeerError) as caught, errors_as_ours("host:9"):
        raise cls("the reason")
    assert caught.value.__cause__ is not None
    assert "host:9" in str(caught.value)
    assert "the reason" in str(caught.value)


@pytest.mark.parametrize("cls", pyro_errors())
def test_each_error_of_pyro4_has_a_meaning_of_its_own(cls: type[Exception]) -> None:
    assert cls in client._MEANINGS


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (Pyro4.errors.ConnectionClosedError, MasterUnreachable),
        (Pyro4.errors.TimeoutError, MasterUnreachable),
        (Pyro4.errors.SecurityError, NotAuthorised),
        (Pyro4.errors.ProtocolError, ProtocolMismatch),
        (ConnectionRefusedError, MasterUnreachable),
        (OSError, MasterUnreachable),
    ],
)
def test_an_error_is_sorted_by_what_a_caller_does_with_it(raised: type[Exception], meant: type[PeerError]) -> None:
    with pytest.raises(meant), errors_as_ours("host:9"):
        raise raised("the reason")


def test_a_server_that_does_not_answer_is_named() -> None:
    kind = ServerKind("name server", NameServerUnreachable, "look at its key file")
    with pytest.raises(NameServerUnreachable, match="no answer from the name server"), errors_as_ours("host:9", kind):
        raise ConnectionRefusedError
    with pytest.raises(NotAuthorised, match="look at its key file"), errors_as_ours("host:9", kind):
        raise Pyro4.errors.SecurityError("hmac")
    assert "HPBANDSTER_LITE_KEY" in MASTER.key_remedy


def test_a_bug_is_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), errors_as_ours("host:9"):
        raise ZeroDivisionError
