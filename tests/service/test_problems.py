"""A separate process describes a problem, and is always ended, even if the problem's import hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpbandster_lite.errors import ProblemError, ProtocolMismatch, SearchError, SpaceError
from hpbandster_lite.problems import describe, describe_in_child, load
from hpbandster_lite.trainer.in_thread import InlineTrainer
from hpbandster_lite.trainer.messages import TrainerReady
from tests.service.worker_master import wait_for_the_end_of

GOOD = """
min_budget, max_budget = 1, 9

def space():
    from ConfigSpace import ConfigurationSpace, Float
    return ConfigurationSpace(space=[Float("lr", (1e-4, 1e-1), log=True)])

def evaluate(config, budget, trial):
    return 0.5
"""
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str) -> str:
        path = tmp_path / "made_up.py"
        path.write_text(text)
        return str(path)

    return file


def refusal_of(reference: str, kind: type[SearchError] = ProblemError, limit_s: float = 60.0) -> str:
    with pytest.raises(kind) as caught:
        describe_in_child(reference, limit_s=limit_s)
    return str(caught.value)


def test_the_child_describes_what_the_problem_itself_would_and_imports_it_alone() -> None:
    found = describe_in_child("hartmann6")
    assert found == describe(load("hartmann6"), "hartmann6")
    assert (found.name, found.min_budget, found.max_budget, found.unit) == ("hartmann6", 1.0, 27.0, "fidelity")


def test_output_of_the_import_does_not_reach_the_answer(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    assert describe_in_child(write(f"print('hello')\n{GOOD}")).max_budget == 9.0
    assert capfd.readouterr() == ("", "")


def test_an_import_that_changes_the_working_directory_leaves_the_reference_as_it_was(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(f"import os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\n{GOOD}")
    monkeypatch.chdir(tmp_path.parent)
    found = describe_in_child(f"{tmp_path.name}/made_up.py")
    assert found.reference == whole
    assert found.source is not None
    assert [file.path for file in found.source.files] == ["made_up.py"]
    trainer = InlineTrainer(f"{tmp_path.name}/made_up.py")
    assert isinstance(trainer.receive()[0], TrainerReady)
    trainer.kill()


def test_what_the_import_leaves_running_ends_with_the_child(write: Write, tmp_path: Path) -> None:
    text = f"import subprocess\npid = subprocess.Popen(['sleep', '600']).pid\nopen({str(tmp_path / 'pid')!r}, 'w')"
    refusal_of(write(f"{text}.write(str(pid))\n1 / 0"))
    wait_for_the_end_of(int((tmp_path / "pid").read_text()))


def test_the_keys_are_not_in_the_environment_of_the_problem(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPBANDSTER_LITE_KEY", "k" * 32)
    monkeypatch.setenv("HPBANDSTER_LITE_NAMESERVER_KEY", "n" * 32)
    text = "import os\nraise ValueError([k for k in os.environ if k.startswith('HPBANDSTER_LITE') and 'KEY' in k])"
    assert "ValueError: []" in refusal_of(write(text))


def test_a_refusal_keeps_its_class_and_its_message(write: Write) -> None:
    assert "made_up.py:2: ZeroDivisionError" in refusal_of(write("\n1 / 0"))
    assert "Upper bound" in refusal_of(write(GOOD.replace("1e-1", "1e-9")), SpaceError)
    assert "did you mean 'digits'" in refusal_of("digitz")


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("import os\nos._exit(7)", "ended with exit code 7"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("import os, time\nos.closerange(3, 1024)\ntime.sleep(600)", "closed the pipe for its answer (os.closerange?)"),
    ],
)
def test_an_import_that_ends_the_process_is_reported_with_the_guard_and_its_last_output(
    text: str, how: str, write: Write
) -> None:
    reference = write(f"print('the last word', flush=True)\n{text}")
    refusal = refusal_of(reference)
    assert refusal.startswith(f"importing {reference!r} {how}")
    assert "; start the search under if __name__" in refusal
    assert "Its last output:\nthe last word" in refusal


def test_a_file_that_hides_a_module_of_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").write_text("draws = 3\n")
    refusal = refusal_of("counting_ones")
    assert f"in {tmp_path}, random.py hides a module of Python that has its name; rename it" in refusal
    assert "__main__" not in refusal.partition("\n")[0]


def test_an_import_that_hangs_is_ended_at_the_limit(write: Write) -> None:
    text = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    assert "was ended after 0.3 s;" in refusal_of(write(text), limit_s=0.3)


def test_what_is_done_meanwhile_is_done_beside_the_child_which_ends_with_its_error(
    write: Write, tmp_path: Path
) -> None:
    problem = write(f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")

    def fail() -> None:
        deadline = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline, "the child was not started"
            time.sleep(0.005)
        raise KeyError("what was done beside it")

    with pytest.raises(KeyError):
        describe_in_child(problem, meanwhile=fail)
    wait_for_the_end_of(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("line", ["garbage", "[1, 2]"])
def test_what_the_import_writes_to_the_pipe_is_not_believed(line: str, write: Write) -> None:
    text = f"import os\nfor fd in range(3, 1024):\n    try: os.write(fd, b'{line}\\n')\n    except OSError: pass\n"
    refusal_of(write(text), ProtocolMismatch)


@pytest.mark.parametrize("where", ["elsewhere", "."])
def test_a_module_beside_the_script_that_runs_is_found_by_other_processes(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine" / "__init__.py").write_text("")
    (tmp_path / "package_of_mine" / "problem.py").write_text(GOOD)
    script = tmp_path / "script.py"
    script.write_text(
        "from hpbandster_lite.problems import reference_of\nfrom package_of_mine import problem\n"
        "print(reference_of(problem))\nprint(reference_of(problem.evaluate))\n"
    )
    monkeypatch.chdir(tmp_path / where)
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True)
    module, function = done.stdout.split()
    load_it = f"from hpbandster_lite.problems import load; load({module!r}).max_budget"
    subprocess.run([sys.executable, "-c", load_it], check=True)
    assert function == f"{module}:evaluate"
    assert module == ("package_of_mine.problem" if where == "." else os.fspath(tmp_path / "package_of_mine/problem.py"))
