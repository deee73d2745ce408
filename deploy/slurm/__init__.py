"""The batch scripts of a search on Slurm, to be read and submitted; installed as ``hpbandster_lite.slurm.batch``."""
