"""Search spaces: ConfigSpace compiled to plain tables, and configurations as vectors of the unit cube.

Law of this room: only this room imports ConfigSpace, and it never draws from ConfigSpace's generator. ``dimension``
holds the table of one hyperparameter, ``codec`` converts coordinates to values, ``clauses`` compiles conditions and
forbidden clauses, ``compile`` reads ConfigSpace, ``search_space`` combines them, ``completion`` reads and
completes the configurations of users, ``space_difference`` compares two spaces, and ``examples`` has spaces for tests.
"""

from hpbandster_lite.space.compile import configspace_from_json, configspace_to_json, import_configspace
from hpbandster_lite.space.completion import Cell, Completed, completed
from hpbandster_lite.space.dimension import Array, Dimension, Mask, Prior
from hpbandster_lite.space.search_space import SearchSpace
from hpbandster_lite.space.space_difference import first_difference, has_only_grown, in_order_of

__all__ = [
    "Array",
    "Cell",
    "Completed",
    "Dimension",
    "Mask",
    "Prior",
    "SearchSpace",
    "completed",
    "configspace_from_json",
    "configspace_to_json",
    "first_difference",
    "has_only_grown",
    "import_configspace",
    "in_order_of",
]
