"""The composition as written, without an engine: a search runs to its end, although processes are killed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.journal import JournalReader, holds_anything
from hpbandster_lite.records import Leased, Recorded
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory
from tests.deploy.composition import Composition, interpolated
from tests.deploy.hosts import Hosts, missing

REASON = missing() or next((f"{name} is not here" for name in ("setpriv", "nsenter") if not shutil.which(name)), None)
if REASON is not None and os.environ.get("REQUIRE_NETNS") == "1":
    raise RuntimeError(f"REQUIRE_NETNS=1, and there can be no virtual hosts: {REASON}")
needs_hosts = pytest.mark.skipif(REASON is not None, reason=f"NOT TESTED, no virtual hosts: {REASON}")
pytestmark = pytest.mark.timeout(300)
USER = 12_345
"""Neither root nor the user of the images: a user who has put other ids into .env."""
SEARCH = """
problem = "slow.py"

[service]
lease = 6     # a master that is started again gives everybody a whole one
heartbeat = 1
"""
PROBLEM = '''
import json
import time
from pathlib import Path

HOLD = Path(__file__).with_name("hold")
min_budget, max_budget, unit = 1, 9, "steps"


def space():
    from ConfigSpace import ConfigurationSpace, Float

    return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])


def evaluate(config, budget, trial):
    saved = trial.resume_directory or trial.previous_directory
    began = 0 if saved is None else json.loads((saved / "state.json").read_text())["step"]
    for step in range(began + 1, int(budget) + 1):
        time.sleep(0.1)
        (trial.directory / "half").write_text(json.dumps({"step": step}))
        (trial.directory / "half").rename(trial.directory / "state.json")
        trial.report(step, config["x"])
        while budget > 1 and HOLD.exists():
            time.sleep(0.05)
            trial.report(step, config["x"])
    return {"loss": config["x"] + 1 / budget, "began": began}
'''


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    # Tests run in parallel: each process has separate hosts, which do not reach the others.
    with Hosts(f"hpb{secrets.token_hex(2)}", 4, "10.83.0") as made:
        yield made


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Variables that a user puts into .env, with the user's keys and problem."""
    tmp_path.chmod(0o755)
    for name in ("secrets", "problems"):
        (tmp_path / name).mkdir()
    for name in ("run", "nameserver"):
        key = tmp_path / "secrets" / f"{name}.key"
        key.write_text(secrets.token_hex(32) + "\n")
        key.chmod(0o600)
        os.chown(key, USER, USER)
    (tmp_path / "problems" / "slow.py").write_text(PROBLEM)
    (tmp_path / "problems" / "search.toml").write_text(SEARCH)
    (tmp_path / "problems" / "hold").touch()
    return {
        "HPBANDSTER_LITE_USER": f"{USER}:{USER}",
        "SECRETS": str(tmp_path / "secrets"),
        "PROBLEMS": str(tmp_path / "problems"),
        "PROBLEM": "/problems/search.toml",
        "MASTER_OPTIONS": "--brackets 1 --seed 1",
        "WORKERS": "2",
        "RUN_ID": "slow",
    }


def place_for(tmp_path: Path) -> Path:
    place = tmp_path / "engine"
    place.mkdir()
    return place


def release(tmp_path: Path) -> None:
    """Let evaluations above the lowest rung continue, which until now wait in the middle."""
    (tmp_path / "problems" / "hold").unlink()


def entries(run: RunDirectory, kind: type) -> list[Any]:
    """Entries of this kind in the journal, in order; empty before the journal exists."""
    if not holds_anything(run.journal):
        return []
    return [entry for _, _, entry in JournalReader(run.journal).entries() if isinstance(entry, kind)]


def above(run: RunDirectory) -> int:
    """The number of leases of evaluations above the lowest rung."""
    return sum(entry.evaluation.rung > 0 for entry in entries(run, Leased))


def check(run: RunDirectory) -> None:
    """The journal has each evaluation of the one bracket of 9, 3 and 1 once, and every decision in it is verified."""
    results = entries(run, Recorded)
    assert len({entry.evaluation for entry in results}) == len(results) == 13
    assert all(entry.outcome.failure is None for entry in results)
    assert verify_run(run).holds


@needs_hosts
def test_a_search_in_containers_ends_by_itself_whatever_is_killed_meanwhile(
    tmp_path: Path, hosts: Hosts, variables: dict[str, str]
) -> None:
    with Composition(place_for(tmp_path), hosts, variables) as engine:
        run = RunDirectory(engine.volume("search") / "slow")
        names, master, first, second = engine
        engine.up()
        engine.until(lambda: above(run) >= 2, "both workers are in the middle of an evaluation")
        engine.until(names.is_healthy, "the name server is healthy")
        engine.until(master.is_healthy, "the master is healthy")
        assert (run.path.stat().st_uid, run.path.stat().st_mode & 0o777) == (USER, 0o700)
        # The ways in which the three end in practice: by the kernel, by a drained node, by a fault.
        first.send(signal.SIGKILL)
        second.send(signal.SIGTERM)
        names.send(signal.SIGKILL)
        engine.until(lambda: all(each.is_back for each in (first, second, names)), "all three are back")
        assert (first.exit_codes, second.exit_codes, names.exit_codes) == ([-9], [130], [-9])
        master.send(signal.SIGTERM)
        engine.until(lambda: master.is_back, "the master is back")
        assert master.exit_codes == [130]
        release(tmp_path)
        engine.until(lambda: all(each.has_ended for each in (master, first, second)), "the search ends")
        assert [each.exit_codes[-1] for each in (master, first, second)] == [0, 0, 0]
        assert engine.stop(names.name) == 0
        check(run)
        # The workers of one host share a volume: a promotion continues from the checkpoint of the rung below.
        assert any(entry.outcome.info["began"] > 0 for entry in entries(run, Recorded))


@needs_hosts
def test_without_a_shared_disk_all_works_but_continuing_elsewhere_which_is_logged_once(
    tmp_path: Path, hosts: Hosts, variables: dict[str, str]
) -> None:
    with Composition(place_for(tmp_path), hosts, variables, apart=True) as engine:
        names, master, first, second = engine
        run = RunDirectory(engine.volume("search", master.place) / "slow")
        engine.up(names.name, master.name, first.name)
        engine.until(lambda: above(run) == 1, "the first worker is in the middle of an evaluation")
        assert engine.stop(first.name) == 130
        elsewhere = {entry.evaluation.config_id for entry in entries(run, Recorded)}
        release(tmp_path)
        engine.up(second.name)
        engine.until(lambda: master.has_ended and second.has_ended, "the search ends")
        assert (master.exit_codes, second.exit_codes) == ([0], [0])
        check(run)
        began = {entry.evaluation: entry.outcome.info["began"] for entry in entries(run, Recorded)}
        assert {at for (config, rung), at in began.items() if config in elsewhere and rung == 1} == {0}
        assert {at for (_, rung), at in began.items() if rung == 2} == {3}
        found = re.findall(r"lies where this worker cannot see it \((.*?)\): .* which is logged once", second.log_text)
        assert len(found) == 1
        assert found[0].startswith("/scratch/hpbandster_lite-12345-slow-")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("${A}", "a"),
        ("${B:-b}/${A:-c}", "b/a"),
        ("${EMPTY:-b}", "b"),
        ("${B}", ""),
        ("$A", "$A"),
        (["${A}", 3, {"k": "${B:-}"}], ["a", 3, {"k": ""}]),
    ],
)
def test_variables_are_what_an_engine_takes_them_for(text: object, meant: object) -> None:
    assert interpolated(text, {"A": "a", "EMPTY": ""}) == meant
