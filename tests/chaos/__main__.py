"""``python -m tests.chaos``: a search under chaos, with its figures at the end; ``--help`` lists the options.

A run of 1,000 faults takes about half an hour. Without root, network namespaces, libfaketime or a file system to mount
it omits the faults that need them, and prints which.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.driver import ChaosBroke, RunOptions, possible_kinds, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--every", type=float, default=1.5, metavar="SECONDS", help="mean time between two faults")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--step", type=float, default=0.2, metavar="SECONDS", help="time that one step takes")
    parser.add_argument("--kinds", help="of these kinds alone, separated by commas")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep the logs here")
    given = parser.parse_args()
    possible, left_out = possible_kinds()
    for reason in left_out:
        print(f"!!! {reason}", flush=True)
    kinds = possible if given.kinds is None else tuple(given.kinds.split(","))
    options = RunOptions(
        seed=given.seed,
        faults=given.faults,
        kinds=kinds,
        every_s=given.every,
        workers=given.workers,
        step_s=given.step,
    )
    with tempfile.TemporaryDirectory(prefix="hpbandster_lite-chaos-") as temporary:
        place = Path(temporary) if given.keep is None else given.keep
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            figures = run(options, place, lambda line: print(line, flush=True))
        except ChaosBroke as error:
            print(error, flush=True)
            return 1
    print(f"all laws hold: {figures}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
