"""Settings shared by all tests."""

from __future__ import annotations

import importlib.util
import os

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
