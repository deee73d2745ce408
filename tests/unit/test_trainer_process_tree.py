"""The end of a trainer and of the processes that it started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hpbandster_lite.trainer.process_tree import ProcessTree


def test_a_trainer_without_other_processes_ends_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = subprocess.Popen(["sleep", "600"], start_new_session=True)
    tree = ProcessTree(trainer.pid, "no such mark")
    monkeypatch.setattr(tree, "has_orphans", lambda: False)
    # An import of it fails now.
    monkeypatch.setitem(sys.modules, "psutil", None)
    tree.end()
    assert trainer.wait(10) == -9
