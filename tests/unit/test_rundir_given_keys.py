"""A key file that the user names becomes the key of the run, and its owner protects it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.environment import KEY_VARIABLE
from hpbandster_lite.rundir import RunDirectory, read_given_key

KEY = "0123456789abcdef" * 4
OTHER_USER = 65_534


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "run")
    made.create()
    return made


def key_file(place: Path, text: str = KEY, mode: int = 0o600) -> Path:
    file = place / "run.key"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_key_that_is_given_is_the_key_for_everybody_who_sees_the_run_directory(
    directory: RunDirectory, tmp_path: Path
) -> None:
    assert directory.adopt_key(key_file(tmp_path, f"{KEY}\n")) == KEY.encode()
    assert directory.read_key() == KEY.encode()
    assert stat.S_IMODE(directory.key_file.stat().st_mode) == 0o600


def test_another_key_takes_the_place_of_the_one_that_was_there(directory: RunDirectory, tmp_path: Path) -> None:
    made = directory.ensure_key()
    assert directory.adopt_key(key_file(tmp_path)) != made
    assert directory.read_key() == KEY.encode()


def test_a_key_that_a_user_put_into_the_run_directory_is_not_replaced(directory: RunDirectory, tmp_path: Path) -> None:
    mine = "f" * 64 + "\n"
    directory.key_file.write_text(mine)
    directory.key_file.chmod(0o600)
    with pytest.raises(UsageError, match=r"key has another key than .*run\.key, .*; move it away"):
        directory.adopt_key(key_file(tmp_path))
    assert directory.key_file.read_text() == mine


def test_a_key_that_a_master_wrote_may_be_replaced_by_another(directory: RunDirectory, tmp_path: Path) -> None:
    directory.adopt_key(key_file(tmp_path))
    assert directory.adopt_key(key_file(tmp_path, "e" * 64)) == b"e" * 64
    assert directory.read_key() == b"e" * 64


def test_a_key_that_is_there_already_is_left_alone(directory: RunDirectory, tmp_path: Path) -> None:
    directory.adopt_key(key_file(tmp_path))
    before = directory.key_file.stat().st_ino
    directory.adopt_key(key_file(tmp_path))
    assert directory.key_file.stat().st_ino == before


@pytest.mark.parametrize(
    ("text", "says"), [("", "openssl rand -hex 32"), ("short", "has no key"), ("ä" * 40, "is not text")]
)
def test_what_is_no_key_is_refused_with_the_remedy_and_changes_nothing(
    text: str, says: str, directory: RunDirectory, tmp_path: Path
) -> None:
    made = directory.ensure_key()
    with pytest.raises(RunDirectoryError, match=says):
        directory.adopt_key(key_file(tmp_path, text))
    assert directory.read_key() == made


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"cannot read the key.*run\.key"):
        read_given_key(tmp_path / "run.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_of_one_s_own_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="chmod 600"):
        read_given_key(key_file(tmp_path, mode=mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize(("mode", "is_taken"), [(0o440, True), (0o444, True), (0o460, False), (0o446, False)])
def test_a_mounted_key_of_another_owner_may_be_read_by_others_and_written_by_none(
    mode: int, is_taken: bool, tmp_path: Path
) -> None:
    file = key_file(tmp_path, mode=mode)
    os.chown(file, OTHER_USER, OTHER_USER)
    if is_taken:
        assert read_given_key(file) == KEY.encode()
    else:
        with pytest.raises(RunDirectoryError, match="open to other users"):
            read_given_key(file)
