"""``hpbandster-lite slurm``: a search as Slurm jobs; one file for each command.

Law of this folder: it parses arguments and prints results; :mod:`hpbandster_lite.slurm` does the work.
"""
