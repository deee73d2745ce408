"""Search spaces: ConfigSpace compiled to plain tables, and configurations as vectors of the unit cube.

Law of this room: the only door to ConfigSpace, whose generator is never drawn from. ``dimension`` holds the table of
one hyperparameter, ``codec`` turns coordinates into values, ``clauses`` compiles conditions and forbidden clauses,
``compile`` reads ConfigSpace, ``search_space`` puts them together, ``difference`` compares two spaces.
"""

from hpbandster_lite.space.compile import configspace_from_json, configspace_to_json, import_configspace
from hpbandster_lite.space.dimension import Array, Dimension, Mask, Prior
from hpbandster_lite.space.search_space import SearchSpace
from hpbandster_lite.space.space_difference import first_difference

__all__ = [
    "Array",
    "Dimension",
    "Mask",
    "Prior",
    "SearchSpace",
    "configspace_from_json",
    "configspace_to_json",
    "first_difference",
    "import_configspace",
]
