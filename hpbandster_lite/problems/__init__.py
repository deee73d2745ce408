"""Problems: the user's code, found by a reference, checked, and described for the journal.

Law of this room: only this room imports the user's code, in a trainer or in the child process of
:func:`describe_in_child`. An error in that code names the user's object, line and value.

:mod:`~hpbandster_lite.problems.interface` defines what a problem is, :mod:`~hpbandster_lite.problems.references` finds
one, :mod:`~hpbandster_lite.problems.options` configures it, :mod:`~hpbandster_lite.problems.description` reads its
space, budgets and options, :mod:`~hpbandster_lite.problems.source` lists and compares its source,
:mod:`~hpbandster_lite.problems.trial` has the object that an objective receives, and
:mod:`~hpbandster_lite.problems.checkpoints` saves and loads the state of its training.
:mod:`~hpbandster_lite.problems.function_source` finds the source of a function that no other process can import, and
:mod:`~hpbandster_lite.problems.value_hash` hashes the values that it reads.
:mod:`~hpbandster_lite.problems.shipped_data` looks for the data of shipped problems.
"""

from hpbandster_lite.problems.description import (
    describe,
    describe_in_child,
    describe_with_data,
    source_hash,
    source_in_child,
    with_options_of_search,
)
from hpbandster_lite.problems.interface import FunctionProblem, Problem
from hpbandster_lite.problems.options import (
    configured,
    described_options,
    given_in,
    shared_values,
    target_of,
    text_of,
    value_difference,
    with_options,
)
from hpbandster_lite.problems.references import load, load_here, loaded, loading, module_of, name_of, reference_of
from hpbandster_lite.problems.source import (
    ARGUMENTS_DIFFER,
    ARGUMENTS_REMEDY,
    SourceTree,
    digest_of,
    hashed_here,
    is_function,
    source_differences,
    source_of,
    source_tree,
)

__all__ = [
    "ARGUMENTS_DIFFER",
    "ARGUMENTS_REMEDY",
    "FunctionProblem",
    "Problem",
    "SourceTree",
    "configured",
    "describe",
    "describe_in_child",
    "describe_with_data",
    "described_options",
    "digest_of",
    "given_in",
    "hashed_here",
    "is_function",
    "load",
    "load_here",
    "loaded",
    "loading",
    "module_of",
    "name_of",
    "reference_of",
    "shared_values",
    "source_differences",
    "source_hash",
    "source_in_child",
    "source_of",
    "source_tree",
    "target_of",
    "text_of",
    "value_difference",
    "with_options",
    "with_options_of_search",
]
