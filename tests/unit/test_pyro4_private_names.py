"""The undocumented names of Pyro4 that the transport uses, checked against the one allowed release.

A failure here means that another release is installed: read its changes before you change the pin in setup.cfg.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import Pyro4
import pytest
from Pyro4 import core, message, naming, util

TRANSPORT = Path(__file__).parents[2] / "hpbandster_lite" / "transport"


def test_the_release_is_the_one_that_was_read() -> None:
    assert Pyro4.__version__ == "4.82"


def test_a_header_has_24_bytes_and_the_fields_that_are_judged() -> None:
    assert message.Message.header_format == "!4sHHHHiHHHH"
    assert message.Message.header_size == 24
    sent = message.Message(message.MSG_INVOKE, b"data", 2, 0, 7, annotations={"ABCD": b"1234"}, hmac_key=b"key")
    header = message.Message.from_header(sent.to_bytes()[:24])
    assert (header.type, header.flags, header.seq, header.serializer_id) == (message.MSG_INVOKE, 0, 7, 2)
    assert 24 + header.data_size + header.annotations_size == len(sent.to_bytes())


def test_the_numbers_of_types_and_flags_are_those_of_the_protocol() -> None:
    assert [message.MSG_CONNECT, message.MSG_CONNECTOK, message.MSG_CONNECTFAIL] == [1, 2, 3]
    assert [message.MSG_INVOKE, message.MSG_RESULT, message.MSG_PING] == [4, 5, 6]
    flags = {name: value for name, value in vars(message).items() if name.startswith("FLAGS_")}
    # An unknown flag may bypass the signature: the server handles no message with one (CALL_FLAGS).
    assert flags == {
        "FLAGS_EXCEPTION": 1,
        "FLAGS_COMPRESSED": 2,
        "FLAGS_ONEWAY": 4,
        "FLAGS_BATCH": 8,
        "FLAGS_META_ON_CONNECT": 16,
        "FLAGS_ITEMSTREAMRESULT": 32,
        "FLAGS_KEEPSERIALIZED": 64,
    }


def test_the_signature_covers_data_and_annotations_and_nothing_of_the_header() -> None:
    one = message.Message(message.MSG_INVOKE, b"data", 2, 0, 1, hmac_key=b"key")
    other = message.Message(message.MSG_RESULT, b"data", 1, message.FLAGS_ONEWAY, 9, hmac_key=b"key")
    assert one.annotations["HMAC"] == other.annotations["HMAC"]
    assert len(one.annotations["HMAC"]) == 20


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_handshake", ["self", "conn", "denied_reason"]),
        ("handleRequest", ["self", "conn"]),
        ("validateHandshake", ["self", "conn", "data"]),
        ("register", ["self", "obj_or_class", "objectId", "force"]),
    ],
)
def test_the_daemon_has_the_steps_that_are_driven(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(core.Daemon, name)).parameters) == parameters


def test_the_daemon_can_be_built_without_a_server() -> None:
    parameters = inspect.signature(core.Daemon).parameters
    assert {"interface", "connected_socket"} <= parameters.keys()
    source = inspect.getsource(core.Daemon.__init__)
    assert "self.__serializer_ids = {" in source
    assert isinstance(core.Daemon._pyroHmacKey, property)


def test_the_daemon_asks_of_a_connection_what_ours_has() -> None:
    daemon = core.Daemon
    steps = (daemon._handshake, daemon.handleRequest, daemon._sendExceptionResponse, message.Message.recv)
    asked = {name for step in steps for name in re.findall(r"\bconn(?:ection)?\.(\w+)", inspect.getsource(step))}
    assert asked == {"recv", "send", "close", "sock"}


def test_json_has_its_number_and_the_daemon_its_own_object() -> None:
    assert util.get_serializer("json").serializer_id == 2
    assert {"get_metadata", "ping", "get_next_stream_item"} <= set(dir(core.DaemonObject))


def test_the_name_server_object_has_what_stock_clients_ask_for() -> None:
    names = {"ping", "count", "lookup", "list", "register", "remove", "set_metadata"}
    assert util.get_exposed_members(naming.NameServer)["methods"] == names


def test_no_other_private_name_of_pyro4_is_used() -> None:
    used = set()
    for path in TRANSPORT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                owner = node.value.id if isinstance(node.value, ast.Name) else ast.unparse(node.value)
                if owner != "self":
                    used.add(f"{owner}.{node.attr}")
    assert used == {"daemon._handshake", "daemon._pyroHmacKey", "daemon._Daemon__serializer_ids"}
