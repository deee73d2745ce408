"""Fixtures of the tests of deployments: a Slurm cluster for each process that runs some of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.slurm_cluster import Cluster, start_cluster, stop_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A private Slurm cluster; skips the test if this machine cannot run one."""
    started = start_cluster(tmp_path_factory.mktemp("slurm"))
    try:
        yield started
    finally:
        stop_cluster(started)
