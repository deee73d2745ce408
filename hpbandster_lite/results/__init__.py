"""What a search found, read from its run directory.

Law of this room: it reads the journal, and writes one file, that of the incumbent.
"""
