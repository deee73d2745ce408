"""``python -m hpbandster_lite.nameserver``."""

from __future__ import annotations

import sys

from hpbandster_lite.nameserver import main
from hpbandster_lite.process.shutdown import leave

if __name__ == "__main__":
    leave(main(sys.argv[1:]))
