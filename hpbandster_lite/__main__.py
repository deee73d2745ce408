"""``python -m hpbandster_lite`` is the command line."""

from hpbandster_lite.cli.start import main

main()
