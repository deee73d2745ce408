"""``python -m hpbandster_lite.nameserver``."""

from __future__ import annotations

import sys

from hpbandster_lite.nameserver import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
