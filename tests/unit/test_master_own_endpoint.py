"""The endpoint file of a serving master: whatever happens to it, the commands find this master again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpbandster_lite.master.own_endpoint import LOOK_EVERY_S, OwnEndpoint
from hpbandster_lite.rundir import RunDirectory

ENDPOINT = {"protocol": 1, "run_id": "r", "epoch": 3, "host": "127.0.0.1", "port": 9, "object": "m", "pid": 7}


class Kept:
    """An endpoint that is kept, in a time of its own."""

    def __init__(self, directory: RunDirectory) -> None:
        self.now = 0.0
        self.endpoint = OwnEndpoint(directory, ENDPOINT, clock=lambda: self.now)

    def look(self) -> None:
        self.now += LOOK_EVERY_S
        self.endpoint.look()


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    return directory


@pytest.mark.parametrize("content", [None, b"", b"{}", bytes(range(256))], ids=["gone", "empty", "other", "garbage"])
def test_an_endpoint_that_is_removed_or_spoilt_is_written_again(
    content: bytes | None, directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(directory)
    kept.look()
    assert not caplog.messages
    directory.endpoint_file.unlink()
    if content is not None:
        directory.endpoint_file.write_bytes(content)
    kept.look()
    assert directory.read_endpoint() == ENDPOINT
    assert caplog.messages == [f"{directory.endpoint_file} was removed or spoilt; it is written again"]


def test_the_endpoint_of_a_newer_master_stays(directory: RunDirectory) -> None:
    kept = Kept(directory)
    newer = {**ENDPOINT, "epoch": 4, "pid": 8}
    directory.write_endpoint(newer)
    kept.look()
    assert directory.read_endpoint() == newer


def test_a_run_directory_that_is_deleted_is_not_made_again(directory: RunDirectory) -> None:
    kept = Kept(directory)
    directory.endpoint_file.unlink()
    directory.path.rename(directory.path.with_name("moved"))
    kept.look()
    assert not directory.path.exists()
