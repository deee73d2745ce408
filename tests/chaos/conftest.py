"""A Slurm cluster for chaos, as the tests of deployments have it."""

from __future__ import annotations

from tests.deploy.conftest import cluster

__all__ = ["cluster"]
