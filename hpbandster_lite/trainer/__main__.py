"""``python -m hpbandster_lite.trainer``: see :mod:`hpbandster_lite.trainer.process`."""

import sys

from hpbandster_lite.process.shutdown import exit_with
from hpbandster_lite.trainer.process import main

# The parent waits for the exit: with scipy or torch imported, a normal one takes up to half a second.
exit_with(lambda: main(sys.argv[1:]))
