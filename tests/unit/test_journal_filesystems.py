"""The file system of a run directory, and a journal on a file system that several machines share."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal import Journal, JournalReader, filesystems
from hpbandster_lite.journal.filesystems import is_network, network_type, type_of
from tests.unit.test_journal import SETTINGS, STARTED, config, recorded, sampled

CLUSTER = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
30 22 0:40 / /home rw,relatime shared:20 master:3 - nfs4 filer:/home rw,vers=4.2,addr=10.0.0.1
31 30 0:41 / /home/ada/local rw - xfs /dev/nvme0n1 rw
32 22 0:42 / /scratch rw - lustre mds@tcp:/scratch rw
33 22 0:43 / /mnt/two\040words rw - cifs //server/share rw
34 22 0:44 / /mnt/far rw - fuse.sshfs ada@far:/data rw
35 22 0:45 / /mnt/near rw - fuse.bindfs /data rw
36 22 0:46 / /work rw - tmpfs tmpfs rw
37 36 0:47 / /work rw - beegfs beegfs_nodev rw
"""


# ----------------------------------------------------------------------------------------------------- file systems


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/run", "ext4"),
        ("/", "ext4"),
        ("/home/ada/run", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/ada", "ext4"),
        ("/home/ada/local/run", "xfs"),
        ("/home/ada/locally", "nfs4"),
        ("/scratch/x/y", "lustre"),
        ("/mnt/two words/run", "cifs"),
        ("/mnt/far/run", "fuse.sshfs"),
        ("/work/run", "beegfs"),
    ],
)
def test_the_longest_mount_point_above_a_path_tells_its_file_system(path: str, kind: str) -> None:
    assert type_of(CLUSTER, path) == kind


def test_the_order_of_mounts_matters_only_at_one_and_the_same_point() -> None:
    lines = CLUSTER.splitlines()
    assert type_of("\n".join(reversed(lines)), "/home/ada/local/run") == "xfs"
    assert type_of("\n".join(reversed(lines)), "/work/run") == "tmpfs"


@given(st.text())
def test_whatever_the_system_tells_is_read(mounts: str) -> None:
    kind = type_of(mounts, "/home/ada")
    assert kind is None or kind in mounts


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "lustre", "beegfs", "cifs", "smb3", "gpfs", "ceph", "glusterfs", "afs", "9p", "virtiofs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse", "fuse.rclone", "fuse.nobody-knows-it"),
    ],
)
def test_what_several_machines_may_see_is_a_network(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.mergerfs"])
def test_what_one_machine_has_to_itself_is_none(kind: str) -> None:
    assert not is_network(kind)


def test_a_link_is_followed_to_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    mounts(tmp_path, monkeypatch, tmp_path / "far")
    assert network_type(tmp_path / "link" / "not there yet") == "nfs4"
    assert network_type(tmp_path / "beside") is None


def test_a_system_that_does_not_tell_has_local_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "MOUNTS", tmp_path / "nothing here")
    assert network_type(tmp_path) is None


# ------------------------------------------------------------------------------------------------------- the journal


def mounts(place: Path, monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    """Make this directory count as part of a network file system."""
    table = place / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:40 / {network} rw - nfs4 filer:/x rw\n")
    monkeypatch.setattr(filesystems, "MOUNTS", table)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "journal.sqlite"


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each != path)


def written(path: Path, count: int = 3) -> Journal:
    """An open journal with some outcomes."""
    journal = Journal.open(path, create=SETTINGS)
    journal.begin_epoch()
    journal.commit([STARTED], at=1.0)
    for number in range(count):
        journal.commit([sampled(config(number)), recorded(config(number), loss=0.1 + number)], at=2.0 + number)
    return journal


def losses(path: Path) -> list[float | None]:
    return [ending.loss for ending in JournalReader(path).endings()]


def test_a_journal_on_a_network_file_system_never_has_a_log_nor_shared_memory(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts(tmp_path, monkeypatch, path.parent)
    with written(path) as journal:
        assert journal.network == "nfs4"
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert journal._connection.execute("PRAGMA synchronous").fetchone()[0] >= 2
        assert losses(path) == [0.1, 1.1, 2.1]
        assert len(list(JournalReader(path).entries())) == 7
        assert beside(path) == []
    with Journal.open(path) as again:
        assert len(list(again.entries())) == 7
        assert beside(path) == []


def test_a_journal_on_a_local_disk_has_its_log(path: Path) -> None:
    with written(path) as journal:
        assert journal.network is None
        assert beside(path) == ["journal.sqlite-shm", "journal.sqlite-wal"]


def test_a_journal_that_comes_to_a_network_file_system_with_its_log_loses_it_and_nothing_else(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    with written(local / path.name):
        for file in (path.name, f"{path.name}-wal"):
            (path.parent / file).write_bytes((local / file).read_bytes())
    mounts(tmp_path, monkeypatch, path.parent)
    # A reader that opens it before the master finds everything, and creates no shared memory either.
    assert losses(path) == [0.1, 1.1, 2.1]
    assert beside(path) == ["journal.sqlite-wal"]
    with Journal.open(path) as journal:
        assert beside(path) == []
        assert losses(path) == [0.1, 1.1, 2.1]
        journal.begin_epoch()
        journal.commit([sampled(config(7))], at=9.0)
        assert beside(path) == []


def test_a_log_that_is_being_read_is_kept(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written(path):
        mounts(tmp_path, monkeypatch, path.parent)
        monkeypatch.setattr("hpbandster_lite.journal.writer.BUSY_S", 0.05)
        with pytest.raises(JournalError, match="locked; another process"):
            Journal.open(path)
    with Journal.open(path) as journal:
        assert len(list(journal.entries())) == 7


def test_a_commit_waits_for_an_open_question_only(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts(tmp_path, monkeypatch, path.parent)
    monkeypatch.setattr("hpbandster_lite.journal.writer.BUSY_S", 0.05)
    with written(path, 600) as journal:
        reading = JournalReader(path).entries()
        next(reading)
        journal.commit([sampled(config(1_000))], at=9.0)
        # A reader that has read one page still sees the journal as it was when it began.
        assert sum(1 for _ in reading) == 1_200
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM entries").fetchone()
            with pytest.raises(JournalError, match="locked"):
                journal.commit([sampled(config(1_001))], at=9.0)
        journal.commit([sampled(config(1_001))], at=9.0)


def test_a_journal_that_leaves_the_network_has_its_log_again(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        mounts(tmp_path, there, path.parent)
        written(path).close()
    with Journal.open(path) as journal:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert losses(path) == [0.1, 1.1, 2.1]


def test_a_journal_that_leaves_the_network_while_it_is_read_stays_as_it_is(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        mounts(tmp_path, there, path.parent)
        written(path).close()
    monkeypatch.setattr("hpbandster_lite.journal.writer.BUSY_S", 0.05)
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM entries").fetchone()
        with Journal.open(path) as journal:
            assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
