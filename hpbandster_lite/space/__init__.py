"""Search spaces: ConfigSpace compiled to plain tables, and configurations as vectors of the unit cube.

Law of this room: only this room imports ConfigSpace, and it never draws from ConfigSpace's generator. ``dimension``
holds the table of one hyperparameter, ``codec`` converts coordinates to values, ``clauses`` compiles conditions and
forbidden clauses, ``compile`` reads ConfigSpace, ``search_space`` combines them, ``space_difference`` compares two
spaces, and ``examples`` has spaces for tests.
"""

from hpbandster_lite.space.compile import configspace_from_json, configspace_to_json, import_configspace
from hpbandster_lite.space.dimension import Array, Dimension, Mask, Prior
from hpbandster_lite.space.search_space import SearchSpace
from hpbandster_lite.space.space_difference import first_difference, has_only_grown

__all__ = [
    "Array",
    "Dimension",
    "Mask",
    "Prior",
    "SearchSpace",
    "configspace_from_json",
    "configspace_to_json",
    "first_difference",
    "has_only_grown",
    "import_configspace",
]
