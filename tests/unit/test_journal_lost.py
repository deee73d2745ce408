"""A journal that is deleted, replaced or overwritten under its master: noticed, kept as a copy, never mixed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal import Fenced, Journal, JournalLost, JournalReader
from hpbandster_lite.records import Paused, Resumed
from hpbandster_lite.rundir import RunDirectory
from tests.engine_room import settings_for, space_of
from tests.unit.test_master_resuming import call_of, question
from tests.unit.test_master_turns import Scene, scene_in
from tests.world_master import Box

SETTINGS = settings_for(space_of())
FIRST, SECOND, THIRD = (Paused(reason="first"), Resumed(), Paused(reason="third"))


def on_network(_path: Path) -> str:
    return "nfs4"


def on_disk(_path: Path) -> None:
    return None


@pytest.fixture(params=[on_disk, on_network], ids=["write-ahead log", "rollback journal"])
def network_of(request: pytest.FixtureRequest) -> Callable[[Path], str | None]:
    function: Callable[[Path], str | None] = request.param
    return function


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = RunDirectory(tmp_path / "runs" / "run")
    directory.create()
    return directory.journal


@pytest.fixture
def served(path: Path, network_of: Callable[[Path], str | None]) -> Iterator[Journal]:
    """A journal with two entries of its second master, and a copy from before the second entry."""
    Journal.open(path, create=SETTINGS, network_of=network_of).close()
    with Journal.open(path, network_of=network_of) as journal:
        journal.begin_epoch()
        journal.commit([FIRST], at=1.0)
        JournalReader(path).copy_to(path.parents[2] / "older.sqlite")
        journal.commit([SECOND], at=2.0)
        yield journal


def older(path: Path) -> Path:
    return path.parents[2] / "older.sqlite"


def entries(path: Path) -> list[object]:
    return [entry for _, _, entry in JournalReader(path).entries()]


def delete(path: Path) -> None:
    path.unlink()


def delete_everything(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_away(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def replace_by_an_older_one(path: Path) -> None:
    shutil.copyfile(older(path), path.with_name("new"))
    path.with_name("new").replace(path)


def replace_by_another_search(path: Path) -> None:
    other = path.with_name("other.sqlite")
    with Journal.open(other, create=SETTINGS) as journal:
        journal.begin_epoch()
        journal.commit([FIRST, SECOND], at=1.0)
    other.replace(path)


def replace_by_something_else(path: Path) -> None:
    path.with_name("new").write_text("notes")
    path.with_name("new").replace(path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (delete, "was deleted or moved away"),
        (delete_everything, "was deleted or moved away"),
        (move_away, "was deleted or moved away"),
        (replace_by_an_older_one, "was replaced by another file"),
        (replace_by_another_search, "was replaced by another file"),
        (replace_by_something_else, "was replaced by another file"),
    ],
)
def test_a_journal_that_is_gone_or_replaced_is_kept_as_a_copy_with_this_turn(
    served: Journal, path: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(path)
    there = path.read_bytes() if path.exists() else None
    with pytest.raises(JournalLost, match=words) as caught:
        served.commit([THIRD], at=3.0)
    served.close()
    assert caught.value.exit_code == 4
    folder = path.parent if path.parent.exists() else path.parents[1]
    kept = folder / "journal.lost-1.sqlite"
    assert str(kept) in str(caught.value)
    assert entries(kept) == [FIRST, SECOND, THIRD]
    # The file at the path is unchanged, and no log of the lost journal changes it.
    assert (path.read_bytes() if path.exists() else None) == there
    log = path.with_name("journal.sqlite-wal")
    assert not log.exists() or log.stat().st_size == 0


def test_a_look_after_the_last_commit_notices_it_too(served: Journal, path: Path) -> None:
    served.look(3.0)
    shutil.rmtree(path.parent)
    with pytest.raises(JournalLost, match=r"all of its 2 entries are saved to"):
        served.look(3.0)
    assert entries(path.parents[1] / "journal.lost-1.sqlite") == [FIRST, SECOND]


def overwrite_by_an_older_one(path: Path) -> None:
    shutil.copyfile(older(path), path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [overwrite_by_an_older_one, empty])
def test_a_journal_that_is_overwritten_in_place_is_noticed_and_not_written_to(
    served: Journal, path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    there = path.read_bytes()
    with pytest.raises(JournalLost, match="was overwritten"):
        served.commit([THIRD], at=3.0)
    served.close()
    assert path.read_bytes() == there


def test_what_the_log_and_the_cache_hold_of_an_overwritten_journal_is_kept(path: Path) -> None:
    with Journal.open(path, create=SETTINGS, network_of=on_disk) as journal:
        journal.begin_epoch()
        journal.commit([FIRST], at=1.0)
        JournalReader(path).copy_to(older(path))
        journal.commit([SECOND], at=2.0)
        shutil.copyfile(older(path), path)
        with pytest.raises(JournalLost, match=r"all of its 2 entries are saved to"):
            journal.look(3.0)
    assert entries(path.with_name("journal.lost-1.sqlite")) == [FIRST, SECOND]
    assert entries(path) == [FIRST]


def test_what_cannot_be_read_any_more_leaves_its_log_and_nothing_that_would_mix(path: Path) -> None:
    with Journal.open(path, create=SETTINGS, network_of=on_disk) as journal:
        journal.begin_epoch()
        # More than the log and the cache hold.
        for number in range(30):
            journal.commit([Paused(reason="x" * 9_000), Resumed()] * 30, at=float(number))
        path.write_bytes(b"")
        with pytest.raises(JournalLost, match=r"entries cannot be saved: .*; its log with the newest entries is"):
            journal.commit([FIRST], at=99.0)
    assert path.read_bytes() == b""
    left = sorted(each.name for each in path.parent.iterdir())
    assert left == ["evaluations", "journal.lost-1.sqlite-wal", "journal.sqlite", "logs"]


def test_a_copy_with_all_that_was_committed_is_gone_on_with(served: Journal, path: Path) -> None:
    """Like a remount, which may change the inode."""
    copy = path.with_name("copy")
    JournalReader(path).copy_to(copy)
    copy.replace(path)
    served.commit([THIRD], at=3.0)
    served.close()
    assert entries(path) == [FIRST, SECOND, THIRD]
    assert list(path.parent.glob("*lost*")) == []


def test_a_run_directory_that_is_another_with_the_same_content_is_gone_on_with(served: Journal, path: Path) -> None:
    shutil.copytree(path.parent, path.parent.with_name("copy"))
    path.parent.rename(path.parent.with_name("old"))
    path.parent.with_name("copy").rename(path.parent)
    served.commit([THIRD], at=3.0)
    served.close()
    with Journal.open(path) as journal:
        assert [entry for _, _, entry in journal.entries()] == [FIRST, SECOND, THIRD]


def test_a_log_that_is_deleted_alone_loses_nothing(path: Path) -> None:
    with Journal.open(path, create=SETTINGS, network_of=on_disk) as journal:
        journal.begin_epoch()
        journal.commit([FIRST], at=1.0)
        path.with_name("journal.sqlite-wal").unlink()
        journal.commit([SECOND], at=2.0)
        # The files after a kill.
        copied = path.parents[1] / "copied"
        shutil.copytree(path.parent, copied)
    assert entries(copied / path.name) == [FIRST, SECOND]


@pytest.mark.parametrize("harmless", [os.utime, "PRAGMA wal_checkpoint(TRUNCATE)"])
def test_a_file_that_is_touched_or_checkpointed_stays_its_own(
    path: Path, harmless: Callable[[Path], None] | str
) -> None:
    with Journal.open(path, create=SETTINGS, network_of=on_disk) as journal:
        journal.begin_epoch()
        journal.commit([FIRST], at=1.0)
        if isinstance(harmless, str):
            with closing(sqlite3.connect(path)) as other:
                other.execute(harmless)
        else:
            os.utime(path)
        journal.commit([SECOND], at=2.0)
    assert entries(path) == [FIRST, SECOND]


def test_an_earlier_lost_journal_stays(path: Path) -> None:
    first = path.with_name("journal.lost-1.sqlite")
    first.write_text("earlier")
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()
        path.unlink()
        with pytest.raises(JournalLost, match=r"journal\.lost-1-2\.sqlite"):
            journal.commit([FIRST], at=1.0)
    assert first.read_text() == "earlier"


def test_a_newer_master_of_the_same_journal_fences_also_after_a_checkpoint(path: Path) -> None:
    with Journal.open(path, create=SETTINGS) as first, Journal.open(path) as second:
        first.begin_epoch()
        first.commit([FIRST], at=1.0)
        second.begin_epoch()
        second.commit([SECOND], at=2.0)
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint")
        with pytest.raises(Fenced):
            first.commit([THIRD], at=3.0)
        second.commit([THIRD], at=3.0)


def test_a_file_system_that_does_not_answer_stalls_and_ends_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()

        stat = os.stat

        def fails(path: str, **options: bool) -> os.stat_result:
            if path == str(journal.path):
                raise OSError(5, "Input/output error", path)
            return stat(path, **options)

        with monkeypatch.context() as patched:
            patched.setattr("os.stat", fails)
            with pytest.raises(JournalError, match="Input/output error") as caught:
                journal.commit([FIRST], at=1.0)
        assert not isinstance(caught.value, JournalLost)
        journal.commit([FIRST], at=1.0)


# ------------------------------------------------------------------------------------------------------------- masters


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as scene:
        yield scene


def test_a_master_whose_run_directory_is_deleted_answers_nothing_of_that_turn(scene: Scene, tmp_path: Path) -> None:
    shutil.rmtree(scene.directory.path)
    box = Box(call_of(question("b"), "b#1"))
    scene.server.inbox.append(box)
    with pytest.raises(JournalLost):
        scene.turn(0.1)
    assert not box.is_sent
    assert (tmp_path / "journal.lost-1.sqlite").exists()


def test_a_master_without_work_notices_it_in_its_next_turn(scene: Scene, tmp_path: Path) -> None:
    scene.directory.journal.unlink()
    with pytest.raises(JournalLost):
        scene.turn(0.1)
