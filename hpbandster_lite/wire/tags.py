"""Tags of the records in :mod:`hpbandster_lite.records`.

Law of this file: journals contain these strings, so they never change. If you rename a class, keep its tag. If you
rename an attribute, add its old name to ``fields_of`` of :func:`hpbandster_lite.wire.register`.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpbandster_lite import records
from hpbandster_lite.wire.messages import register

TAGS: Mapping[str, type] = {
    # Entries of the journal.
    "Started": records.Started,
    "BracketOpened": records.BracketOpened,
    "Sampled": records.Sampled,
    "AgentJoined": records.AgentJoined,
    "Leased": records.Leased,
    "Recorded": records.Recorded,
    "SetAside": records.SetAside,
    "LateReport": records.LateReport,
    "Released": records.Released,
    "Expired": records.Expired,
    "RungShrunk": records.RungShrunk,
    "ModelFitted": records.ModelFitted,
    "RungFilled": records.RungFilled,
    "PutBack": records.PutBack,
    "Paused": records.Paused,
    "Resumed": records.Resumed,
    "SourceChanged": records.SourceChanged,
    "Finished": records.Finished,
    # Parts of entries and of messages.
    "Failure": records.Failure,
    "Outcome": records.Outcome,
    "Report": records.Report,
    "Proposal": records.Proposal,
    "ProcessIdentity": records.ProcessIdentity,
    "Limits": records.Limits,
    # What defines a search.
    "ProblemOption": records.ProblemOption,
    "SourceFile": records.SourceFile,
    "ProblemSource": records.ProblemSource,
    "ProblemDescription": records.ProblemDescription,
    "SearchSettings": records.SearchSettings,
}

for _tag, _class in TAGS.items():
    register(_tag)(_class)
