"""The Slurm cluster of the tests of deployments, for chaos."""

from __future__ import annotations

from tests.deploy.conftest import cluster

__all__ = ["cluster"]
