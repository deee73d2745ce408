"""What every process of a search needs: environment, devices, startup, shutdown, log format.

Law of this room: about a process and its machine, for all kinds of processes; it decides nothing about a search.
"""
