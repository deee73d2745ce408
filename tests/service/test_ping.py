"""``ping``: the answer of a server, or the fault with its exit code if none answers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hpbandster_lite.cli.app import make_app
from hpbandster_lite.errors import (
    MasterUnreachable,
    NameServerUnreachable,
    NotAuthorised,
    RunDirectoryError,
    SearchError,
    UsageError,
)
from tests.service.served_search import ServedSearch, served_search

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedSearch, str]]:
    """A master without a worker, and the address of the name server at which it is registered."""
    with served_search(tmp_path_factory.mktemp("ping") / "search") as made:
        _, port = made.start_nameserver()
        made.start_master(nameserver=("127.0.0.1", port))
        made.wait_registered(port)
        yield made, f"127.0.0.1:{port}"


@pytest.fixture
def search(registered: tuple[ServedSearch, str]) -> ServedSearch:
    return registered[0]


@pytest.fixture
def names(registered: tuple[ServedSearch, str]) -> str:
    return registered[1]


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEY", "KEY_FILE", "RUN_ID", "NAMESERVER", "NAMESERVER_KEY", "NAMESERVER_KEY_FILE"):
        monkeypatch.delenv(f"HPBANDSTER_LITE_{name}", raising=False)


def ping(*arguments: str | Path) -> Result:
    return CliRunner().invoke(make_app("ping"), ["ping", *map(str, arguments)])


def answer_to(*arguments: str | Path) -> str:
    """The output of ``ping``, which must get an answer."""
    done = ping(*arguments)
    assert done.exit_code == 0, done.exception
    return done.output


def refusal(*arguments: str | Path) -> SearchError:
    done = ping(*arguments)
    assert isinstance(done.exception, SearchError), done.output
    return done.exception


def test_the_master_of_a_run_directory_answers(search: ServedSearch) -> None:
    assert re.fullmatch(
        rf"the master of run {search.run_id} at 127\.0\.0\.1:\d+ answers \(\d+ ms\): running, 0 evaluations recorded, "
        r"0 workers\n",
        answer_to(search.directory.path),
    )


def test_the_master_of_a_run_id_is_asked_as_a_worker_would_ask_it(search: ServedSearch, names: str) -> None:
    answer = answer_to("--nameserver", names, "--run-id", search.run_id, "--key", search.directory.key_file)
    assert f"the master of run {search.run_id} at" in answer


def test_the_name_server_is_asked_alone_where_no_run_is_named(names: str) -> None:
    assert "answers" in (answer := answer_to("--nameserver", names))
    assert answer.endswith("it knows 1 masters\n")


def test_the_environment_says_the_same(search: ServedSearch, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPBANDSTER_LITE_NAMESERVER", names)
    monkeypatch.setenv("HPBANDSTER_LITE_RUN_ID", search.run_id)
    monkeypatch.setenv("HPBANDSTER_LITE_KEY_FILE", str(search.directory.key_file))
    assert f"the master of run {search.run_id}" in answer_to()


def test_a_wrong_key_a_wrong_run_and_a_missing_key_file_are_distinguished(
    search: ServedSearch, names: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.key"
    wrong.write_text("0" * 64)
    wrong.chmod(0o600)
    by_name = ("--nameserver", names, "--run-id")
    assert isinstance(refusal(*by_name, search.run_id, "--key", wrong), NotAuthorised)
    unknown = refusal(*by_name, "unknown", "--key", wrong)
    assert isinstance(unknown, MasterUnreachable)
    assert "knows no run 'unknown'" in str(unknown)
    assert isinstance(refusal(*by_name, search.run_id, "--key", tmp_path / "none"), RunDirectoryError)
    assert isinstance(refusal(*by_name, search.run_id), UsageError)


def test_an_address_without_a_server_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed_port = f"127.0.0.1:{probe.getsockname()[1]}"
        refused = refusal("--nameserver", closed_port, "--timeout", "2")
    assert isinstance(refused, NameServerUnreachable)
    assert closed_port in str(refused)
    assert refused.exit_code == 3


def test_a_run_directory_without_a_master_and_no_word_of_whom_to_ask_are_refused(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path), RunDirectoryError)
    assert "run directory, or --nameserver" in str(refusal())
