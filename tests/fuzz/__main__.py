"""The long run: ``python -m tests.fuzz [--inputs 100000] [--seed N]`` prints the number of inputs and the time."""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import fuzz_journal, fuzz_transport


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all; 1 in 20 is a journal")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # A hundred thousand warnings are of no use.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        certificates = fuzz_transport.certificates_in(place / "tls")
        parts: dict[str, Callable[[], int]] = {
            "server": lambda: fuzz_transport.run(given.inputs * 13 // 20, given.seed, None),
            "server under TLS": lambda: fuzz_transport.run(given.inputs * 4 // 20, given.seed, certificates),
            "client": lambda: fuzz_transport.run_client(given.inputs * 3 // 20, given.seed),
            "journal": lambda: fuzz_journal.run(given.inputs // 20 + 1, given.seed, place)[0],
        }
        for name, part in parts.items():
            began = time.monotonic()
            print(f"{name}: {part():,} inputs in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
