"""Makes ``docs/pictures/search.svg``: the terminal of a real search, as ``hpbandster-lite run`` draws it.

Law of this file: the search runs in a pseudo-terminal for the given number of seconds. The picture is the last
of the frames with the most learning curves, exported to SVG by rich. Usage, in the environment of the package::

    python docs/pictures/terminal.py [--seconds 120] [--out docs/pictures/search.svg] [-- ARGUMENTS of run]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import itertools
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 112, 40
ERASED_FRAME = r"\n?\r?(?:\x1b\[2K\x1b\[1A)+\x1b\[2K"
"""Before each frame rich erases the one before, line by line, and moves the cursor up."""
ERASE = re.compile(r"\x1b\[2K|\x1b\[\?25[lh]")
FIRST_LINE = "\x1b[2msearch "
"""How a frame begins."""


def recorded(command: list[str], seconds: float, directory: str) -> str:
    """Everything that a command writes to a terminal within this time; the command then gets SIGINT."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(command, cwd=directory, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([master], [], [], 0.2)[0]:
            written += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the last process has closed the terminal
        while process.poll() is None or select.select([master], [], [], 0.5)[0]:
            os.read(master, 65536)
    process.wait()
    return written.decode("utf-8", errors="ignore")


def frame_with_learning_curves(written: str) -> str:
    """The lines above the live view, and the last of its frames with the most learning curves."""
    first, *frames = re.split(ERASED_FRAME, written)[:-1]
    above = first[: first.rindex(FIRST_LINE)]
    counts = [len(re.findall(r" at \d+\b", frame.partition("learning curve")[2])) for frame in frames]
    return above + max(zip(counts, range(len(frames)), frames, strict=True))[2]


def picture(text: str, title: str) -> str:
    """The text as an SVG; ``text`` has the colours of a terminal as escape sequences."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    lines = (ERASE.sub("", line).rstrip() for line in text.replace("\r", "").splitlines())
    kept = [line for line, following in itertools.pairwise([*lines, "end"]) if line or following]
    console.print(Text.from_ansi(f"$ {title}\n" + "\n".join(kept)), soft_wrap=True)
    return console.export_svg(title=title)


def main() -> None:
    """Record a search and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("search.svg"))
    parser.add_argument("search", nargs="*", default=["digits", "--workers", "4"])
    given = parser.parse_args()
    command = Path(sys.executable).with_name("hpbandster-lite")
    with tempfile.TemporaryDirectory() as directory:
        written = recorded([str(command), "run", *given.search], given.seconds, directory)
    svg = picture(frame_with_learning_curves(written), " ".join(["hpbandster-lite run", *given.search]))
    given.out.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
