"""``python -m hpbandster_lite.trainer``: see :mod:`hpbandster_lite.trainer.child`."""

import sys

from hpbandster_lite.trainer.child import main

sys.exit(main(sys.argv[1:]))
