"""BOHB's model: kernel densities of good and bad configurations, and what they propose.

Law of this folder: a proposal depends only on the generator and on what was added and observed.
"""
