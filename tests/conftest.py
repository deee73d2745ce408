"""Settings shared by all tests."""

from __future__ import annotations

import importlib.util
import os

from hypothesis import HealthCheck, settings

# In a job of Slurm signals mean other things, and workers have other names: what this run is a job of is not tested.
os.environ.pop("SLURM_JOB_ID", None)
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("night", deadline=None, max_examples=5_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# The core needs no torch, and is tested without it on Pythons for which there is no build of it that fits; CI has one.
collect_ignore_glob = (
    []
    if importlib.util.find_spec("torch")
    else [
        "service/test_image_search.py",
        *(f"unit/test_{name}*.py" for name in ("digits", "images", "networks", "vision")),
    ]
)
