"""``python -m hpbandster_lite`` is the command line."""

from hpbandster_lite.start import main

main()
