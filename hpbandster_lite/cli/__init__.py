"""The command line, ``hpbandster-lite COMMAND``.

Law of this room: it parses, prints and chooses exit codes; all work is done by the rooms below.
"""
