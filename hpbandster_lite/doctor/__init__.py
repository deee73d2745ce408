"""What an issue report needs to know about an installation, a machine and a run directory.

Law of this room: a probe reads and measures, has a time limit, and reports no secret; the judgement is a pure function
of the answers.
"""
