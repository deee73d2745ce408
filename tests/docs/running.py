"""Runs the blocks of a document as a reader would: a fresh directory, the environment's commands, a limit of time.

Law of this file: whatever a block starts has ended, by itself, when the block has; what has not is killed and told.
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
"""For one block; a document's main job is shortened to fit in."""
MARK = "DOCUMENT_BLOCK"
"""Environment variable by which the processes that a block started are found again, detached ones as well."""


def run_story(story: list[Block], directory: Path, *, ci: str, limit_s: float = LIMIT_S) -> None:
    """Run blocks one after the other in one directory; a block that does not do what the document says raises."""
    (directory / ".venv").symlink_to(sys.prefix)
    for block in story:
        file = directory / (block.wishes.file or "example.py")
        if block.wishes.file is not None or block.language == "python":
            file.write_text(block.text, encoding="utf-8")
        if block.language == "bash":
            script = without_setting_up(block.text, ci=ci)
            _check(block, block.expected, _run(block, _bash(script), directory, limit_s))
        elif block.language == "python":
            _check(block, block.expected, _run(block, [sys.executable, file.name], directory, limit_s))
        elif block.language == "console":
            _run_console(block, directory, limit_s)


def _run_console(block: Block, directory: Path, limit_s: float) -> None:
    """Run the commands in one shell, so that they share their variables, and compare what each shows."""
    told = commands(block)
    mark = uuid.uuid4().hex
    script = "exec 2>&1\n" + f"\nprintf '%s\\n' {mark}\n".join(command.script for command in told)
    printed = _run(block, _bash(script), directory, limit_s).split(f"{mark}\n")
    for command, output in zip(told, printed, strict=True):
        _check(block, command.expected, output)


def _bash(script: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script]


def _run(block: Block, command: list[str], directory: Path, limit_s: float) -> str:
    """Run one command to its end; returns what it printed on standard output."""
    mark = uuid.uuid4().hex
    # Files, not pipes: a process that is left behind would hold a pipe open and the test would wait for it.
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
            ended = "" if process.returncode == block.wishes.exit_code else f"ended with {process.returncode}"
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
    """This process's environment without what a reader does not have, and with the environment's commands first."""
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
    """Kill every living process that carries the mark; returns their command lines."""
    ended: dict[int, str] = {}
    found = True
    while found:  # again, because one of them may have started another while they were looked at
        found = False
        for process in psutil.process_iter():
            # Others may end, or belong to somebody else, meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found = True
                    ended.setdefault(process.pid, " ".join(process.cmdline()) or process.name())
                    process.kill()
    return list(ended.values())


def _check(block: Block, expected: str | None, printed: str) -> None:
    if expected is not None and not matches(expected, printed):
        raise AssertionError(f"{block.place}: the document says\n{expected}\n--- and it printed\n{printed}")
