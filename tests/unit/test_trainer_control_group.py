"""The control group of a trainer: where it is made, and where none can be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpbandster_lite.trainer.control_group import ControlGroup, own_group

MOUNT = "41 31 0:38 {root} {place} rw,relatime - cgroup2 cgroup2 rw\n"


def proc(tmp_path: Path, membership: str, mounts: str) -> Path:
    made = tmp_path / "proc"
    made.mkdir()
    (made / "cgroup").write_text(membership)
    (made / "mountinfo").write_text(mounts)
    return made


@pytest.mark.parametrize(
    ("membership", "root", "below"),
    [("0::/", "/", "."), ("4:memory:/a\n0::/a/b\n", "/", "a/b"), ("0::/docker/x/job\n", "/docker/x", "job")],
    ids=["root", "beside version 1", "a mount of a part"],
)
def test_the_group_of_a_process_is_found_in_the_mounted_hierarchy(
    membership: str, root: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cgroup"
    (place / below).mkdir(parents=True)
    mkdir = Path.mkdir

    def made_by_the_kernel(path: Path) -> None:
        mkdir(path)
        (path / "cgroup.kill").touch()

    about = proc(tmp_path, membership, "1 2 0:1 / /proc rw - proc proc rw\n" + MOUNT.format(root=root, place=place))
    monkeypatch.setattr(Path, "mkdir", made_by_the_kernel)
    group = own_group(proc=about, name="own")
    assert group is not None
    assert group.path == place / below / "own"


def test_without_version_2_there_is_no_group(tmp_path: Path) -> None:
    assert own_group(proc=proc(tmp_path, "4:memory:/a\n", "1 2 0:1 / /proc rw - proc proc rw\n")) is None
    assert own_group(proc=tmp_path / "nothing") is None


def test_a_kernel_that_cannot_end_a_group_gets_none_and_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "cgroup").mkdir()
    about = proc(tmp_path, "0::/\n", MOUNT.format(root="/", place=tmp_path / "cgroup"))
    assert own_group(proc=about) is None
    assert list((tmp_path / "cgroup").iterdir()) == []


def test_a_group_that_this_user_may_not_make_is_none(tmp_path: Path) -> None:
    about = proc(tmp_path, "0::/gone\n", MOUNT.format(root="/", place=tmp_path / "cgroup"))
    assert own_group(proc=about) is None
    assert own_group(ControlGroup(tmp_path / "nowhere")) is None


def test_a_process_that_cannot_be_put_into_a_group_is_noticed(tmp_path: Path) -> None:
    group = ControlGroup(tmp_path)
    assert not group.add(1)
    group.kill()
    assert list(tmp_path.iterdir()) == []
