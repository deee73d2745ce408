"""Host and port as text: read, refused, written."""

from __future__ import annotations

import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.host_port import format_host_port, parse_host_port


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("127.0.0.1:9090", ("127.0.0.1", 9090)),
        ("login.cluster:1", ("login.cluster", 1)),
        ("[::1]:9090", ("::1", 9090)),
        (" host:9090 ", ("host", 9090)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, value: tuple[str, int]) -> None:
    assert parse_host_port("--nameserver", text) == value
    assert format_host_port(*value) == text.strip()


@pytest.mark.parametrize("text", ["", "host", "host:", ":9090", "::1:9090", "a:b:1", "host:90 90", "[::1]", "host:x"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match=r"--nameserver .*write HOST:PORT"):
        parse_host_port("--nameserver", text)


@pytest.mark.parametrize("text", ["host:65536", "host:999999"])
def test_a_port_beyond_the_last_one_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--nameserver: port \d+ is out of range.*65535"):
        parse_host_port("--nameserver", text)
