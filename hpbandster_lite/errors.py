"""Every error that hpbandster_lite raises on purpose, sorted by its cause: the user, the peer, the machine or a bug.

A caller handles an error by its branch, and the exit code of a command follows the branch::

    SearchError                  base of all of them
    ├── UsageError               the user's input, found before any GPU time is spent      exit 2
    │   ├── SpaceError           the search space or a configuration of it
    │   ├── BudgetError          min_budget, max_budget, eta, the ladder
    │   ├── ProblemError         the problem cannot be loaded or does not fit its interface
    │   │   └── UnknownOption    the problem has no option of this name
    │   ├── ResumeError          the run directory belongs to another search
    │   └── NotPlain             a value that cannot be sent to another process
    ├── PeerError                the other side of a connection                            exit 3
    │   ├── MasterUnreachable    no answer; the call may be repeated
    │   ├── NameServerUnreachable
    │   ├── NotAuthorised        the key was refused or is missing
    │   ├── AgentIdTaken         another process is the agent with this id
    │   └── ProtocolMismatch     the other side has another protocol version, or refused the message
    ├── SourceDiffers            a worker's source of the problem is not the search's      exit 5
    ├── RunDirectoryError        the machine: disk, permissions, locks                     exit 4
    │   ├── JournalError         the journal cannot be read or written
    │   └── Held                 another living master holds the run directory
    └── InvariantBroken          a bug of hpbandster_lite                                  exit 70

A failed training raises no error: it is an :class:`~hpbandster_lite.records.Outcome` with a failure.
"""

from __future__ import annotations

from collections.abc import Iterable


class SearchError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is the exit code of a command that ends with it."""

    exit_code: int = 1


class UsageError(SearchError, ValueError):
    """The user's input is wrong; the message names the field, the value and the remedy."""

    exit_code = 2


class SearchFileError(UsageError):
    """A fault in a search file; the message names its key."""


class SpaceError(UsageError):
    """A search space, or a configuration that does not belong to it."""


class BudgetError(UsageError):
    """Budgets that do not form a ladder."""


class ProblemError(UsageError):
    """A problem that cannot be loaded or lacks a part."""


class UnknownOption(ProblemError):
    """An option that the problem does not have; ``option`` is its name, if it is known."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class ResumeError(UsageError):
    """A run directory that belongs to another search."""


class NotPlain(UsageError, TypeError):
    """A value that cannot be sent to another process; the message names its path."""


class PeerError(SearchError, ConnectionError):
    """The other side of a connection failed."""

    exit_code = 3


class MasterUnreachable(PeerError):
    """No answer from the master; it may or may not have received the call, so repeat the call."""


class NameServerUnreachable(PeerError):
    """No answer from the name server."""


class NotAuthorised(PeerError):
    """The other side refused our key, or sent none."""


class AgentIdTaken(PeerError):
    """Another process is the agent with this id; what both would do counts once, so one of them is refused."""


class ProtocolMismatch(PeerError):
    """The other side has another version of the protocol, or refused the message as malformed."""


class SourceDiffers(SearchError):
    """A worker has another source of the problem than the search accepted."""

    exit_code = 5


class RunDirectoryError(SearchError, OSError):
    """The run directory cannot be used; everything already in it is kept."""

    exit_code = 4


class JournalError(RunDirectoryError):
    """The journal cannot be read or written."""


class Held(RunDirectoryError):
    """Another living process holds the run directory; the message names it."""


class InvariantBroken(SearchError, AssertionError):
    """A bug of hpbandster_lite; the message describes what led to it."""

    exit_code = 70


def did_you_mean(word: object, known: Iterable[str], *, otherwise: str = "there is") -> str:
    """The end of an error about an unknown name: the nearest known names, or all of them if no name is similar.

    Parameters
    ----------
    word
        The unknown name.
    known
        The known names, in the order in which they are listed.
    otherwise
        The words before the list of all names; empty for no list.

    Returns
    -------
    str
        For example ``; did you mean 'eta'?`` or ``; there is eta, unit``.
    """
    names = list(known)
    near = nearest_names(word, names)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; {otherwise} {', '.join(names) or 'none'}" if otherwise else ""


def nearest_names(word: object, known: Iterable[str]) -> list[str]:
    """At most three known names that resemble a word, the nearest first."""
    # Imported here: every process imports this module, but few report an unknown name.
    import difflib

    return difflib.get_close_matches(str(word), list(known), n=3, cutoff=0.6)
