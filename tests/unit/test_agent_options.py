"""Options of an agent: how they are sent, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import ProtocolMismatch, UsageError


def test_options_travel_on_a_command_line() -> None:
    options = AgentOptions(
        problem="digits", nameserver=("node1", 9090), run_id="digits-1", device="GPU-1a2b", timeout_s=60, lifeline=5
    )
    assert wire.from_message(wire.decode(wire.encode(wire.to_message(options))), AgentOptions) == options


@pytest.mark.parametrize("way", [{"run_dir": "runs/digits"}, {"nameserver": ("node1", 9090), "run_id": "digits-1"}])
def test_a_run_directory_or_a_name_server_with_a_run_leads_to_the_master(way: dict[str, Any]) -> None:
    assert AgentOptions(problem="digits", **way).isolation == "trainer"


@pytest.mark.parametrize("way", [{}, {"nameserver": ("node1", 9090)}, {"run_id": "digits-1"}])
def test_without_a_way_to_the_master_a_worker_is_refused(way: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give --run-dir, or --nameserver and --run-id"):
        AgentOptions(problem="digits", **way)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"isolation": "process"}, "isolation must be one of trainer, none, got 'process'"),
        ({"isolation": "none", "timeout_s": 5.0}, "a time limit needs isolation='trainer'"),
        ({"timeout_s": 0}, "timeout_s must be above 0 seconds, got 0"),
        ({"timeout_s": float("nan")}, "timeout_s must be above 0 seconds, got nan"),
        ({"master_timeout_s": -1.0}, "master_timeout_s must be above 0 seconds, got -1.0"),
        ({"idle_timeout_s": 0.0}, "idle_timeout_s must be above 0 seconds, got 0.0"),
        ({"order_within_s": 0.0}, "order_within_s must be above 0 seconds"),
        ({"grace_s": 0.0}, "grace_s must be above 0 seconds"),
        ({"load_timeout_s": 0.0}, "load_timeout_s must be above 0 seconds"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"max_log_bytes": -1}, "max_log_bytes must be at least 0, got -1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        AgentOptions(problem="digits", run_dir="runs/digits", **wrong)
    assert message in str(caught.value)


def test_an_option_that_is_not_known_is_refused_on_the_command_line() -> None:
    message = wire.to_message(AgentOptions(problem="digits", run_dir="runs/digits")) | {"pace": 3}
    with pytest.raises(ProtocolMismatch, match="pace"):
        wire.from_message(message, AgentOptions)
