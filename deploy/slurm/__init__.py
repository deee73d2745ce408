"""The batch scripts of a search on Slurm, installed as ``hpbandster_lite.slurm.batch``."""
