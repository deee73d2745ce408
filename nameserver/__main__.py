"""``python -m hpbandster_lite.nameserver``."""

from __future__ import annotations

import sys

from hpbandster_lite.nameserver import main
from hpbandster_lite.process.shutdown import exit_now
from hpbandster_lite.process.streams import make_usable

if __name__ == "__main__":
    make_usable()
    exit_now(main(sys.argv[1:]))
