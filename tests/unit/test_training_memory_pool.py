"""Memory that a training frees is used again without page faults, and returned at the end."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hpbandster_lite.workers.training.memory_pool import _glibc, freed_memory_kept
from hpbandster_lite.workers.training.torch_switches import process_settings

ROOT = Path(__file__).parents[2]
PAGES = 8 * 2**20 // resource.getpagesize()
"""Pages of one tensor."""
pytestmark = pytest.mark.skipif(_glibc() is None, reason="another C library")


def faults_of_a_step() -> int:
    """Page faults of a step that allocates four tensors and frees them, once the memory was there."""

    def step() -> None:
        tensors = [torch.ones(8 * 2**20 // 4) for _ in range(4)]
        assert float(sum(tensor[-1] for tensor in tensors)) == 4

    # The heap grows in the first steps.
    for _ in range(5):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_step_of_a_training_on_a_cpu_finds_the_memory_of_the_step_before() -> None:
    with process_settings("cpu", deterministic=False, tf32=True):
        assert faults_of_a_step() < PAGES / 4


def returned_pages() -> int:
    """Pages that are returned to the system at the end of the context."""

    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    with freed_memory_kept():
        faults_of_a_step()
        within = resident_pages()
    return within - resident_pages()


def test_the_memory_is_returned_at_the_end() -> None:
    # In a process of its own: what other tests have left in the heap decides where tensors lie.
    program = "from tests.unit.test_training_memory_pool import returned_pages; print(returned_pages())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 2 * PAGES
