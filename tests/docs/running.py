"""Runs the blocks of a document as a reader would: in an empty directory, with the environment's commands and a limit.

Law of this file: every process that a block starts must end before the block does; others are killed and reported.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil

from tests.docs.blocks import Block, commands, matches
from tests.docs.setting_up import without_setting_up

LIMIT_S = 240.0
"""Time limit of one block; the documents' longer jobs are shortened to fit."""
MARK = "DOCUMENT_BLOCK"
"""Environment variable that identifies the processes of a block, including detached ones."""


def run_group(group: list[Block], directory: Path, *, ci: str, limit_s: float = LIMIT_S) -> None:
    """Run blocks in order in one directory; raises if a block does not do what the document says."""
    (directory / ".venv").symlink_to(sys.prefix)
    for block in group:
        file = directory / (block.settings.file or "example.py")
        if block.settings.file is not None or block.language == "python":
            file.write_text(block.text, encoding="utf-8")
        if block.language == "bash":
            script = without_setting_up(block.text, ci=ci)
            _check(block, block.expected, _run(block, _bash(script), directory, limit_s))
        elif block.language == "python":
            _check(block, block.expected, _run(block, [sys.executable, file.name], directory, limit_s))
        elif block.language == "console":
            _run_console(block, directory, limit_s)


def _run_console(block: Block, directory: Path, limit_s: float) -> None:
    """Run the commands in one shell, so that they share variables, and compare the output of each."""
    shown = commands(block)
    mark = uuid.uuid4().hex
    script = "exec 2>&1\n" + f"\nprintf '%s\\n' {mark}\n".join(command.script for command in shown)
    printed = _run(block, _bash(script), directory, limit_s).split(f"{mark}\n")
    for command, output in zip(shown, printed, strict=True):
        _check(block, command.expected, output)


def _bash(script: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script]


def _run(block: Block, command: list[str], directory: Path, limit_s: float) -> str:
    """Run one command to its end; returns its standard output."""
    mark = uuid.uuid4().hex
    # Files, not pipes: a remaining process would hold a pipe open, and the test would wait for it.
    with (directory / ".stdout").open("w+b") as stdout, (directory / ".stderr").open("w+b") as stderr:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=_environment(directory, mark),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            ended = f"did not end within {limit_s:g} s"
        else:
            ended = "" if process.returncode == block.settings.exit_code else f"ended with {process.returncode}"
        left = _end_all(mark)
        process.wait()
        stdout.seek(0)
        stderr.seek(0)
        printed, complaints = (file.read().decode("utf-8", errors="replace") for file in (stdout, stderr))
    if left and not ended:
        ended = f"left behind {left}"
    assert not ended, f"{block.place}: the block {ended}\n--- printed\n{printed}--- standard error\n{complaints}"
    return printed


def _environment(directory: Path, mark: str) -> dict[str, str]:
    """This process's environment without the variables of the tests, and with the environment's commands first."""
    foreign = ("HPBANDSTER_LITE_", "PYTEST_", "PYTHON", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "COLUMNS": "120",
        "HOME": str(directory),
        "NO_COLOR": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        MARK: mark,
    }


def _end_all(mark: str) -> list[str]:
    """Kill every process with this mark; returns their command lines."""
    ended: dict[int, str] = {}
    found = True
    while found:  # again, because one may have started another meanwhile
        found = False
        for process in psutil.process_iter():
            # Other processes may end meanwhile, or belong to another user.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found = True
                    ended.setdefault(process.pid, " ".join(process.cmdline()) or process.name())
                    process.kill()
    return list(ended.values())


def _check(block: Block, expected: str | None, printed: str) -> None:
    if expected is not None and not matches(expected, printed):
        raise AssertionError(f"{block.place}: the document says\n{expected}\n--- and the output is\n{printed}")
