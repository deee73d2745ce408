"""Settings shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# In a Slurm job signals have other meanings and workers other names; the tests must not depend on this run's own job.
os.environ.pop("SLURM_JOB_ID", None)
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("night", deadline=None, max_examples=5_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# The core needs no torch. Where no build of torch fits the Python, the tests run without it; CI has torch.
collect_ignore_glob = (
    []
    if importlib.util.find_spec("torch")
    else [
        "service/test_image_search.py",
        *(f"unit/test_{name}*.py" for name in ("digits", "images", "networks", "vision")),
    ]
)


def pytest_xdist_auto_num_workers() -> int:
    """How many processes ``-n auto`` means: one more than there are cores, because many tests wait for processes."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest, so that none of them runs alone at the end; one thread of torch."""
    items.sort(key=_limit_s, reverse=True)
    if "torch" in sys.modules:
        # The tests' processes share the cores; threads of theirs that wait for each other would take them from others.
        sys.modules["torch"].set_num_threads(1)


def _limit_s(item: pytest.Item) -> float:
    limit = item.get_closest_marker("timeout")
    return float(limit.args[0]) if limit is not None else 0.0
