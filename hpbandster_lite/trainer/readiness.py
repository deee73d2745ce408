"""The message that a trainer sends after it has imported the problem.

Law of this file: it reads the source directly after the import, so that it does not include later edits.
"""

from __future__ import annotations

from dataclasses import replace

from hpbandster_lite.problems import (
    Problem,
    described_options,
    module_of,
    name_of,
    shared_values,
    source_hash,
    source_of,
    source_tree,
)
from hpbandster_lite.trainer.messages import TrainerReady


def readiness(problem: Problem, reference: str, arguments: str = "") -> TrainerReady:
    """The message that identifies the imported problem; ``arguments`` is the hash of those that the import has read."""
    module = module_of(reference)
    tree = source_tree(problem, module)
    source = source_of(problem, module)
    return TrainerReady(
        problem=name_of(reference),
        source_hash=source_hash(problem),
        options=shared_values(described_options(problem, reference)),
        source=source if source.version is not None else replace(source, arguments=arguments),
        folder=tree.folder,
        modules=tree.modules,
    )
