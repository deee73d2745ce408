"""Whether the source that a trainer has imported is the one that the search accepts.

Law of this file: the master's list says which files count; each is hashed as the trainer imported it, else as it lies
on this host now. A trainer that is started anew is compared again before it evaluates anything.
"""

from __future__ import annotations

from hpbandster_lite.problems import (
    ARGUMENTS_DIFFER,
    ARGUMENTS_REMEDY,
    SourceTree,
    digest_of,
    hashed_here,
    source_differences,
)
from hpbandster_lite.protocol.messages import SourceAnswer
from hpbandster_lite.trainer.messages import TrainerReady

REMEDY = (
    "bring the same files here; or, if the edit is meant, end the search and continue it with --accept-edited-source"
)


class SourceCheck:
    """Compares the sources of one agent's trainers with that of the search.

    Attributes
    ----------
    refusal : str or None
        In what the last trainer's source differs, and the remedy.
    digest : str
        Identifies the source that was compared; empty before that.
    """

    def __init__(self) -> None:
        self._ready: TrainerReady | None = None
        self._accepted: SourceAnswer | None = None
        self.refusal: str | None = None
        self.digest = ""

    @property
    def is_due(self) -> bool:
        """Whether the master has not been asked yet."""
        return self._accepted is None and self._ready is not None and self._ready.source is not None

    def trainer_is_ready(self, ready: TrainerReady) -> None:
        """Note what a trainer has imported, and compare it, where the search's source is known."""
        self._ready = ready
        self._compare()

    def take(self, accepted: SourceAnswer) -> None:
        """Note the source that the search accepts, and compare."""
        self._accepted = accepted
        self._compare()

    def refuse(self, reason: str, *remedies: str) -> None:
        """Note why this source is refused, and what to do."""
        self.refusal = "; ".join((reason, *remedies, REMEDY))

    def _compare(self) -> None:
        ready, accepted = self._ready, self._accepted
        if ready is None or accepted is None or ready.source is None:
            return
        differences: tuple[str, ...] = ()
        if accepted.source is None:
            is_other = "" not in (accepted.source_hash, ready.source_hash) and accepted.source_hash != ready.source_hash
            if is_other and ready.source.version is None:
                differences = (f"{ready.source.file} is another one",)
            self.digest = digest_of(None, ready.source_hash if differences else accepted.source_hash)
        else:
            tree = SourceTree(folder=ready.folder, modules=ready.modules)
            found = hashed_here(accepted.source, tree, ready.source)
            differences = source_differences(accepted.source, found)
            self.digest = digest_of(found, ready.source_hash)
        if differences:
            self.refuse(
                f"the source of the problem {ready.problem!r} on this host is not the one of the search: "
                f"{'; '.join(differences)}",
                *([ARGUMENTS_REMEDY] if ARGUMENTS_DIFFER in differences else []),
            )
