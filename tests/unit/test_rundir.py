"""A run directory keeps its secrets, and no reader sees half of a file in it."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.environment import KEY_VARIABLE, NAMESERVER_KEY_VARIABLE
from hpbandster_lite.records import ConfigId, EvaluationId
from hpbandster_lite.rundir import RunDirectory, default_run_directory, hosts_of
from hpbandster_lite.rundir.keys import SHORTEST_KEY

ENDPOINT = {
    "protocol": 1,
    "run_id": "digits-1",
    "epoch": 3,
    "host": "127.0.0.1",
    "port": 4711,
    "object": "hpbandster_lite.master",
    "pid": 99,
}


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(NAMESERVER_KEY_VARIABLE, raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "runs" / "digits")
    made.create()
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ------------------------------------------------------------------------------------------------------------- paths


def test_every_attempt_has_a_directory_of_its_own() -> None:
    run = RunDirectory("runs/digits")
    evaluation = EvaluationId(ConfigId(2, 0, 11), 1)

    assert run.attempt_directory(evaluation, 3) == Path("runs/digits/evaluations/2-0-11/rung1/attempt3")
    assert run.configuration_directory(evaluation.config_id) in run.attempt_directory(evaluation, 3).parents


def test_no_two_files_of_a_run_share_a_path() -> None:
    run = RunDirectory("r")
    files = [run.journal, run.key_file, run.nameserver_key_file, run.endpoint_file, run.lock_file, run.log("master")]

    assert len(set(files)) == len(files)
    assert all(Path("r") in file.parents for file in files)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("digits", "digits"),
        ("my_module:problem", "my_module-problem"),
        ("package.module", "package.module"),
        ("path/to/file.py:problem", "file-problem"),
        ("path/to/file.py", "file"),
        ("C:\\data\\file.py", "file"),
        ("a b/ü.py", "search"),
        ("..", "search"),
        ("", "search"),
    ],
)
def test_a_run_directory_is_named_after_its_problem(reference: str, name: str) -> None:
    assert default_run_directory(reference) == Path("runs") / name


@given(st.text(max_size=20))
def test_whatever_the_reference_the_directory_lies_below_the_base(reference: str) -> None:
    path = default_run_directory(reference, "base")

    assert path.parent == Path("base")
    assert path.name not in ("", ".", "..")


def test_new_takes_the_next_free_number(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = default_run_directory("digits", tmp_path, new=True)
        path.mkdir()
        names.append(path.name)

    assert names == ["digits", "digits-2", "digits-3"]
    assert default_run_directory("digits", tmp_path) == tmp_path / "digits"


# ---------------------------------------------------------------------------------------------------------- creation


def test_a_new_run_directory_is_for_its_owner_alone(directory: RunDirectory) -> None:
    assert mode_of(directory.path) == 0o700
    assert directory.log("master").parent.is_dir()


def test_creating_a_run_directory_again_changes_nothing(directory: RunDirectory) -> None:
    key = directory.ensure_key()
    directory.create()

    assert directory.ensure_key() == key


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o705, 0o701])
@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "with_a_file"])
def test_a_directory_that_others_may_enter_keeps_its_mode(tmp_path: Path, is_empty: bool, mode: int) -> None:
    if not is_empty:
        (tmp_path / "notes.txt").touch()
    tmp_path.chmod(mode)
    directory = RunDirectory(tmp_path)

    directory.create()
    directory.ensure_key()

    assert mode_of(tmp_path) == mode
    assert mode_of(directory.key_file) == 0o600
    assert {mode_of(folder) for folder in tmp_path.iterdir() if folder.is_dir()} == {0o700}


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o720, 0o702, 0o1777])
def test_a_directory_in_which_others_may_write_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    directory = RunDirectory(tmp_path)
    tmp_path.chmod(mode)

    for use in (directory.create, directory.check, directory.ensure_key):
        with pytest.raises(RunDirectoryError, match=rf"for writing \(mode {mode:o}\).*chmod go-w {directory.path}$"):
            use()
    assert mode_of(tmp_path) == mode
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(mode & ~0o022)
    directory.create()


@pytest.mark.parametrize("name", ["evaluations", "reports", "logs"])
def test_a_folder_in_which_others_may_write_is_refused_if_they_may_enter_the_directory(
    directory: RunDirectory, name: str
) -> None:
    folder = directory.path / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o775)
    directory.check()
    directory.path.chmod(0o755)

    with pytest.raises(RunDirectoryError, match=rf"mode 775.*chmod 700 {folder}$"):
        directory.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_the_directory_of_another_user_keeps_its_owner_and_its_mode(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, -1)
    tmp_path.chmod(0o755)

    RunDirectory(tmp_path).create()

    assert (mode_of(tmp_path), tmp_path.stat().st_uid) == (0o755, 12_345)


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(RunDirectoryError, match="is not a directory; give another run directory"):
        RunDirectory(tmp_path / "file").create()
    with pytest.raises(RunDirectoryError, match=r"cannot make the run directory.*Not a directory"):
        RunDirectory(tmp_path / "file" / "below").create()
    assert (tmp_path / "file").read_text() == "mine"


# -------------------------------------------------------------------------------------------------------------- keys


def test_a_key_is_made_once_and_only_its_owner_can_read_it(directory: RunDirectory) -> None:
    key = directory.ensure_key()

    assert len(key) == 64
    assert mode_of(directory.key_file) == 0o600
    assert directory.ensure_key() == directory.read_key() == key


def test_runs_and_name_servers_have_keys_of_their_own(directory: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "other")
    other.create()

    keys = {directory.ensure_key(), directory.ensure_nameserver_key(), other.ensure_key()}

    assert len(keys) == 3
    assert directory.ensure_nameserver_key() in keys


def test_a_key_in_the_environment_comes_before_the_file(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file = directory.ensure_key()
    monkeypatch.setenv(KEY_VARIABLE, " from the environment\n")

    assert directory.ensure_key() == directory.read_key() == b"from the environment"
    monkeypatch.setenv(KEY_VARIABLE, "")
    assert directory.read_key() == in_file


def test_with_a_key_in_the_environment_no_file_is_written(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAMESERVER_KEY_VARIABLE, "k" * SHORTEST_KEY)

    assert directory.ensure_nameserver_key() == b"k" * SHORTEST_KEY
    assert not directory.nameserver_key_file.exists()


def test_a_short_key_in_the_environment_is_refused_with_the_remedy(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k" * (SHORTEST_KEY - 1))

    with pytest.raises(UsageError, match=r"HPBANDSTER_LITE_KEY has 15 characters.*token_hex"):
        directory.read_key()


def test_a_missing_key_is_named(directory: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match=r"set HPBANDSTER_LITE_KEY.*key: No such file"):
        directory.read_key()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(directory: RunDirectory, mode: int) -> None:
    directory.ensure_key()
    directory.key_file.chmod(mode)

    with pytest.raises(RunDirectoryError, match=rf"mode {mode:o}.*chmod 600 {directory.key_file}$"):
        directory.read_key()


def test_an_empty_key_file_is_refused(directory: RunDirectory) -> None:
    directory.key_file.touch(0o600)

    with pytest.raises(RunDirectoryError, match="has no key; delete it"):
        directory.ensure_key()


def test_of_two_that_make_the_key_at_once_both_go_on_with_the_same(directory: RunDirectory) -> None:
    barrier = threading.Barrier(8)
    keys: list[bytes] = []

    def make() -> None:
        barrier.wait()
        keys.append(directory.ensure_key())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(keys) == 8
    assert set(keys) == {directory.read_key()}


def test_a_key_is_made_where_hard_links_are_not(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)

    assert directory.ensure_key() == directory.read_key()


# ---------------------------------------------------------------------------------------------------------- endpoint


def test_an_endpoint_comes_back_as_it_was_written(directory: RunDirectory) -> None:
    assert directory.read_endpoint() is None
    directory.write_endpoint(ENDPOINT)

    assert directory.read_endpoint() == ENDPOINT


def test_a_failed_write_leaves_the_old_endpoint_and_nothing_else(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write_endpoint(ENDPOINT)
    before = sorted(directory.path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirectoryError, match=r"cannot write the file: .*endpoint\.json: No space left"):
        directory.write_endpoint({**ENDPOINT, "port": 1})

    assert directory.read_endpoint() == ENDPOINT
    assert sorted(directory.path.iterdir()) == before


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", b"\xff", json.dumps({"port": 1}), "[" * 100_000),
        *(json.dumps({**ENDPOINT, "port": port}) for port in ("1", 0, -1, 65_536, True, 1.0)),
        *(json.dumps({**ENDPOINT, "host": host}) for host in ("", "a\0b", "a\nb", "a" * 300)),
        *(json.dumps({**ENDPOINT, "epoch": epoch}) for epoch in (0, -1, 2**53, True)),
    ],
    ids=[
        *("empty", "half", "list", "no text", "incomplete", "nested"),
        *("port as text", "port 0", "port below 0", "port above all", "port true", "port 1.0"),
        *("no host", "host with NUL", "host with line end", "long host"),
        *("epoch 0", "epoch below 0", "epoch above all", "epoch true"),
    ],
)
def test_an_endpoint_file_with_something_else_is_refused(directory: RunDirectory, content: str | bytes) -> None:
    directory.endpoint_file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(RunDirectoryError, match=r"endpoint\.json is not the endpoint of a master; delete it"):
        directory.read_endpoint()


def test_an_endpoint_that_cannot_be_read_is_an_error_of_the_run_directory(directory: RunDirectory) -> None:
    directory.endpoint_file.mkdir()

    words = "cannot read the endpoint: .* Is a directory in the place of a file; move it away"
    with pytest.raises(RunDirectoryError, match=words):
        directory.read_endpoint()


def test_a_master_withdraws_its_own_endpoint_only(directory: RunDirectory) -> None:
    directory.write_endpoint(ENDPOINT)

    directory.remove_endpoint(epoch=2)
    # The journal of a new search in a run directory that was deleted and created again.
    directory.remove_endpoint(epoch=3, pid=100)
    assert directory.read_endpoint() == ENDPOINT
    directory.remove_endpoint(epoch=3)
    assert directory.read_endpoint() is None
    directory.remove_endpoint(epoch=3)


@pytest.mark.parametrize("addresses", [None, ["10.0.0.1", "fd00::1"]])
def test_an_endpoint_has_one_host_or_several_and_old_ones_stay_readable(
    addresses: list[str] | None, directory: RunDirectory
) -> None:
    directory.write_endpoint(ENDPOINT if addresses is None else {**ENDPOINT, "addresses": addresses})
    endpoint = directory.read_endpoint()
    assert endpoint is not None
    assert hosts_of(endpoint) == (addresses or ["127.0.0.1"])


@pytest.mark.parametrize("addresses", ["10.0.0.1", [1], {"a": 1}, None])
def test_addresses_that_are_none_make_no_endpoint(addresses: object, directory: RunDirectory) -> None:
    directory.write_endpoint({**ENDPOINT, "addresses": addresses})
    with pytest.raises(RunDirectoryError, match="not the endpoint"):
        directory.read_endpoint()


# --------------------------------------------------------------------------------------------- reported directories


@given(reported=st.lists(st.sampled_from(["..", ".", "a", "", "b c", "...", "~"]), max_size=6).map("/".join))
def test_a_reported_relative_directory_lies_in_the_run_directory_however_it_is_written(reported: str) -> None:
    run = RunDirectory("/some/run")
    found = run.readable_directory(reported) if not reported.startswith("/") else None
    assert found is None or Path(os.path.normpath(found)).is_relative_to(run.path)


@pytest.mark.parametrize("reported", ["", "..", "a/../b", "/srv/..", "a\0b", "x" * 5_000, "/nobody/has/this"])
def test_a_directory_that_no_attempt_can_have_is_not_read(reported: str) -> None:
    assert RunDirectory("/some/run").readable_directory(reported) is None


def test_a_reported_absolute_directory_is_read_if_it_belongs_to_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RunDirectory("/some/run").readable_directory(str(tmp_path)) == str(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert RunDirectory("/some/run").readable_directory(str(tmp_path)) is None


def test_a_run_has_logs_of_attempts_only_where_one_printed_something(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert not directory.has_attempt_logs()
    attempt = directory.attempt_directory(EvaluationId(ConfigId(0, 0, 3), 1), 1)
    attempt.mkdir(parents=True)
    assert not directory.has_attempt_logs()
    (attempt / RunDirectory.LOG_NAME).touch()
    assert directory.has_attempt_logs()


@pytest.mark.parametrize("name", ["logs", "evaluations"])
def test_a_file_in_the_place_of_a_folder_is_named_with_the_remedy(name: str, directory: RunDirectory) -> None:
    folder = directory.path / name
    folder.rmdir()
    folder.touch()
    with pytest.raises(RunDirectoryError) as refused:
        directory.create()
    assert str(refused.value) == f"{folder} is not a directory; move it away, and the search makes one"


def test_a_directory_in_the_place_of_a_key_is_named_with_the_remedy(directory: RunDirectory) -> None:
    key = directory.path / "key"
    key.unlink(missing_ok=True)
    key.mkdir(mode=0o755)
    with pytest.raises(RunDirectoryError) as refused:
        directory.ensure_key()
    assert str(refused.value) == f"{key} is a directory and has no key; give a file, or move the directory away"
