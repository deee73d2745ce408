"""Print the requirements of setup.cfg, one in each line: ``requirements.py [EXTRA ...]``.

Law of this file: it reads only setup.cfg. So a change of the code does not rebuild the image layer with the libraries,
which takes minutes.
"""

from __future__ import annotations

import configparser
import sys
from pathlib import Path


def requirements(setup: Path, extras: list[str]) -> list[str]:
    """Requirements of the package and of these extras; raises a KeyError for an unknown extra."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(setup.read_text("utf-8"))
    texts = [parser["options"]["install_requires"], *(parser["options.extras_require"][extra] for extra in extras)]
    lines = (line.strip() for text in texts for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in requirements(Path("setup.cfg"), sys.argv[1:])))
