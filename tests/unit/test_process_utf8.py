"""Every process decodes names of files as UTF-8, whatever the locale is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpbandster_lite.process import utf8

PROBE = """
import json, os, sys
from hpbandster_lite.process import streams, utf8
utf8.start_again_in_utf8()
streams.make_usable(utf8.output_encoding())
facts = [sys.getfilesystemencoding(), sys.stdout.encoding, sys.argv[1:], os.listdir(), utf8.OUTPUT in os.environ]
print(json.dumps(facts))
print("gr\u00fcn")
"""
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONDONTWRITEBYTECODE": "1"}
OTHERS = ("ascii", "iso8859-1")


@pytest.mark.parametrize("how", ["module", "file"])
def test_a_command_under_another_locale_starts_again_with_its_arguments_and_the_encoding_of_its_output(
    how: str, tmp_path: Path
) -> None:
    (tmp_path / "prüfung.py").write_text(PROBE)
    what = ["-m", "prüfung"] if how == "module" else ["prüfung.py"]
    done = subprocess.run(
        [sys.executable, *what, "größe", "a b"],
        cwd=tmp_path, env=os.environ | C, capture_output=True, text=True, check=True,
    )  # fmt: skip
    facts, word = done.stdout.splitlines()
    assert facts == '["utf-8", "ascii", ["gr\\u00f6\\u00dfe", "a b"], ["pr\\u00fcfung.py"], false]'
    assert word == r"gr\xfcn"


def test_a_command_under_utf_8_does_not_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started again"))
    utf8.start_again_in_utf8()
    assert utf8.output_encoding() is None


@pytest.mark.parametrize("encoding", ["utf-8", *OTHERS])
def test_children_run_in_utf_8_mode_where_the_locale_has_another_encoding(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = ["-X", "utf8"] if encoding in OTHERS else []
    if sys.flags.utf8_mode:
        pytest.skip("this process is in UTF-8 mode")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: encoding)
    assert utf8.python_command("-m", "name") == [sys.executable, *mode, "-m", "name"]
