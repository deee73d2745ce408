"""Log lines about peers are limited in rate."""

from __future__ import annotations

import logging

import pytest

from hpbandster_lite.transport.rate_limited_log import RateLimitedLog


def test_strangers_get_one_line_per_kind_and_interval(caplog: pytest.LogCaptureFixture) -> None:
    peer_log = RateLimitedLog(logging.getLogger("hpbandster_lite.test"), every_s=10.0)
    for hundredth in range(1_000):
        peer_log.warn("garbage", "it sends garbage", now=hundredth / 100)
    peer_log.warn("slow", "it is slow", now=9.0)
    assert caplog.messages == ["it sends garbage", "it is slow"]
    peer_log.warn("garbage", "it sends garbage", now=10.0)
    assert caplog.messages[2:] == ["it sends garbage (and 999 more like this before)"]
    peer_log.warn("garbage", "it sends garbage", now=20.0)
    assert caplog.messages[3:] == ["it sends garbage"]
