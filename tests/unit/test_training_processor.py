"""What the flags of a processor say about bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpbandster_lite.workers.training.processor import has_fast_bfloat16


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx2 avx512f avx512_bf16 avx512_vnni", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx2 avx512f avx512_vnni amx_tile", False),
        ("", False),
    ],
)
def test_amx_and_avx512_multiply_bfloat16_fast(flags: str, fast: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: AVX512 amx_bf16\nflags\t\t: {flags}\nbugs\t: avx512_bf16\n")
    assert has_fast_bfloat16(file) is fast


def test_a_host_without_the_file_has_no_flags(tmp_path: Path) -> None:
    assert not has_fast_bfloat16(tmp_path / "none")
