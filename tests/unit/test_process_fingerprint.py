"""The fingerprint of a process differs exactly if the last bits of a proposal may differ."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from hpbandster_lite.errors import JournalError
from hpbandster_lite.process.fingerprint import fingerprint, processor_features, thread_setting
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu vme sse sse2 ssse3 fma avx avx2 avx512f f16c vmx
processor\t: 1
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd evtstrm sve crc32\n"


def test_the_fingerprint_has_all_that_last_bits_depend_on() -> None:
    found = fingerprint()
    assert (found["python"], found["numpy"], found["scipy"]) == (
        platform.python_version(), np.__version__, version("scipy")
    )  # fmt: skip
    assert set(found) >= {"hpbandster_lite", "machine", "C library", "processor", "threads"}
    json.dumps(found)


def test_changing_a_fingerprint_changes_no_other() -> None:
    fingerprint()["numpy"] = "0"
    assert fingerprint()["numpy"] == np.__version__


def test_scipy_is_not_imported_for_its_version() -> None:
    script = (
        "import sys, hpbandster_lite.results.verify_run as v; before = 'scipy' in sys.modules; "
        "print(v.fingerprint()['scipy'], before or 'scipy' not in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [version("scipy"), "True"]


@pytest.mark.parametrize(
    ("text", "features"),
    [(X86, "avx avx2 avx512f f16c fma sse sse2 ssse3"), (ARM, "asimd sve"), ("model : 3\n", ""), ("", "")],
)
def test_the_vector_features_are_those_of_the_first_core(tmp_path: Path, text: str, features: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert processor_features(tmp_path / "cpuinfo") == features


def test_a_system_that_does_not_tell_its_processor_has_no_features(tmp_path: Path) -> None:
    assert processor_features(tmp_path / "nothing") == ""


def test_threads_are_as_configured_or_as_many_as_cores() -> None:
    assert thread_setting({"OMP_NUM_THREADS": "2"}) == "OMP_NUM_THREADS=2"
    assert thread_setting({"MKL_NUM_THREADS": "4", "OMP_NUM_THREADS": "2"}) == "OMP_NUM_THREADS=2, MKL_NUM_THREADS=4"
    assert thread_setting({"HOME": "/"}).startswith("as many as cores: ")


def test_a_run_directory_without_a_journal_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        verify_run(RunDirectory(tmp_path))
