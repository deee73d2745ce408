"""``python -m hpbandster_lite`` is the command line."""

from hpbandster_lite.cli import main

main()
