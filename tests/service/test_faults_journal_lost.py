"""The run directory or its journal is deleted or replaced during a search: the search ends and names its copy."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Recorded
from tests.service.local_search import LocalSearchProcess

pytestmark = pytest.mark.timeout(150)


def test_a_run_directory_that_is_deleted_ends_the_search_with_its_results_kept(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path)
    with search.held(recorded=3) as process:
        recorded = len(search.of(Recorded))
        shutil.rmtree(search.directory.path)
        output = search.end_of(process, 4)
    assert re.search(r"the journal .*journal\.sqlite was deleted or moved away while this master", output)
    (kept,) = [*tmp_path.glob("journal.lost-1.sqlite"), *search.directory.path.glob("journal.lost-1.sqlite")]
    assert str(kept) in output
    assert sum(isinstance(entry, Recorded) for _, _, entry in JournalReader(kept).entries()) >= recorded
    assert not search.directory.journal.exists()
    # The files that workers left there do not prevent the continuation of the search.
    if search.directory.path.exists():
        search.directory.check()


def test_an_older_journal_moved_over_it_ends_the_search_and_the_lost_one_goes_on(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path)
    journal = search.directory.journal
    with search.held(recorded=1) as process:
        JournalReader(journal).copy_to(tmp_path / "older.sqlite")
        search.hold(False)
        search.wait_recorded(4)
        search.hold()
        search.wait_inside()
        acknowledged = search.results()
        older = (tmp_path / "older.sqlite").read_bytes()
        (tmp_path / "older.sqlite").replace(journal)
        output = search.end_of(process, 4)
    assert "was replaced by another file" in output
    assert journal.read_bytes() == older
    search.directory.path.joinpath("journal.lost-1.sqlite").replace(journal)
    search.run()
    search.check(acknowledged)
