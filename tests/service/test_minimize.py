"""``minimize`` as scripts call it: in separate processes, from a file, a notebook, a shell."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace
from typer.testing import CliRunner

import hpbandster_lite as hpb
from hpbandster_lite.cli.app import make_app
from hpbandster_lite.errors import ProblemError, ResumeError, RunDirectoryError, UsageError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Leased, Recorded
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory

pytestmark = pytest.mark.timeout(120)

DEADLINE_S = 60.0
HEAD = """
import json
import time
from pathlib import Path

import hpbandster_lite as hpb
from ConfigSpace import ConfigurationSpace, Float

HERE = Path.cwd()
space = ConfigurationSpace(space=[Float("x", (0.0, 1.0))])
about = {"min_budget": 1, "max_budget": 3, "workers": 1, "brackets": 1, "algorithm": "hyperband"}
about["run_dir"] = HERE / "run"


def evaluate(config, budget, trial):
    (HERE / "inside").touch()
    while (HERE / "hold").exists():
        trial.report(1, 1.0)
        time.sleep(0.01)
    return (config["x"] - 0.25) ** 2 / budget


def tell(result):
    incumbent = result.incumbent
    print(json.dumps({"loss": incumbent.loss, "budget": incumbent.budget, "values": dict(incumbent.values)}))

"""


def script(place: Path, text: str) -> Path:
    file = place / "script.py"
    file.write_text(HEAD + textwrap.dedent(text))
    return file


def started(place: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output_of(place: Path, text: str, code: int = 0) -> tuple[str, str]:
    """Run a script, which must end with this exit code; return its output on both streams."""
    process = started(place, str(script(place, text)))
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, err
    return out, err


def entries(place: Path, kind: type) -> list[Any]:
    reader = JournalReader(place / "run" / "journal.sqlite")
    return [entry for _, _, entry in reader.entries() if isinstance(entry, kind)]


# ----------------------------------------------------------------------------------------------------- from a script


def test_a_function_and_a_space_are_searched_and_the_same_call_goes_on(tmp_path: Path) -> None:
    text = """
    if __name__ == "__main__":
        tell(hpb.minimize(evaluate, space, seed=1, **about))
    """
    out, err = output_of(tmp_path, text)
    printed = json.loads(out)
    assert printed["budget"] == 3.0
    assert printed["loss"] == pytest.approx((printed["values"]["x"] - 0.25) ** 2 / 3)
    assert f"beginning the search in {tmp_path / 'run'}" in err
    evaluations = len(entries(tmp_path, Recorded))
    assert evaluations == 4
    again, err = output_of(tmp_path, text)
    assert again == out
    assert "continuing the search" in err
    assert len(entries(tmp_path, Recorded)) == evaluations


def test_a_problem_object_is_found_by_the_name_that_it_has_in_the_script(tmp_path: Path) -> None:
    out, _ = output_of(
        tmp_path,
        """
        class Bowl:
            min_budget, max_budget, unit = 1, 3, "steps"
            def space(self):
                return space
            def evaluate(self, config, budget, trial):
                return evaluate(config, budget, trial)

        bowl = Bowl()
        if __name__ == "__main__":
            tell(hpb.minimize(bowl, workers=1, brackets=1, algorithm="random", run_dir="run", seed=1))
        """,
    )
    assert json.loads(out)["budget"] == 3.0


def test_a_reference_is_searched_from_anywhere(tmp_path: Path) -> None:
    script(tmp_path, "min_budget, max_budget = 1, 3\n")
    code = (
        "import hpbandster_lite as hpb\n"
        "result = hpb.minimize('script.py', workers=1, evaluations=2, algorithm='random', run_dir='run')\n"
        "print(len(result.evaluations))"
    )
    process = started(tmp_path, "-c", code)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out.strip()) == (0, "2"), err


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 0, "interrupted"), (signal.SIGUSR2, 75, "")], ids=["INT", "USR2"]
)
def test_a_signal_hands_back_what_runs_and_ends_the_script_with_its_meaning(
    number: signal.Signals, code: int, words: str, tmp_path: Path
) -> None:
    file = script(
        tmp_path,
        """
        if __name__ == "__main__":
            try:
                hpb.minimize(evaluate, space, seed=1, **about)
            except KeyboardInterrupt:
                print("interrupted")
        """,
    )
    (tmp_path / "hold").touch()
    process = started(tmp_path, str(file))
    deadline = time.monotonic() + DEADLINE_S
    while not (tmp_path / "inside").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out.strip()) == (code, words), err
    assert not entries(tmp_path, Recorded)
    (tmp_path / "hold").unlink()
    output_of(tmp_path, 'if __name__ == "__main__":\n    hpb.minimize(evaluate, space, **about)\n')
    assert len(entries(tmp_path, Recorded)) == 4
    assert len(entries(tmp_path, Leased)) == 5


# ------------------------------------------------------------------------------ objectives without an importable name


def test_a_script_without_the_guard_gets_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    _, err = output_of(tmp_path, "hpb.minimize(evaluate, space, **about)", code=1)
    assert 'put the call under if __name__ == "__main__":' in err
    assert "ProblemError: importing " in err


NESTED = """
def made():
    def inner(config, budget, trial):
        return evaluate(config, budget, trial)
    return inner

if __name__ == "__main__":
    result = hpb.minimize({function}, space, seed=1, {options}**about)
    print(len(result.evaluations))
"""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param("lambda config, budget, trial: 0.5", "<lambda>: it has no name", marks=pytest.mark.slow),
        ("made()", "inner: it has no name"),
    ],
)
def test_a_function_without_an_import_path_is_refused_with_both_remedies(
    function: str, words: str, tmp_path: Path
) -> None:
    _, err = output_of(tmp_path, NESTED.format(function=function, options=""), code=1)
    assert words in err
    assert "write it at the top level of a file" in err
    assert "isolation='none'" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "function", ["lambda config, budget, trial: config['x']", pytest.param("made()", marks=pytest.mark.slow)]
)
def test_a_function_without_an_import_path_runs_in_threads_of_the_caller(function: str, tmp_path: Path) -> None:
    out, _ = output_of(tmp_path, NESTED.format(function=function, options="isolation='none', "))
    assert out.strip() == "4"


def test_a_global_that_the_main_function_sets_is_refused_where_workers_would_not_have_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("K = 1.0\nmin_budget = max_budget = 1\ndef evaluate(c, b, t): return K\n")
    text = """
    import net
    K = 1.0
    def scaled(config, budget, trial):
        return K + 0 * config["x"]

    def main():
        global K
        K = net.K = 2.0
        for problem, its_space in ((scaled, space), (net.evaluate, space), (net, None), ("net.py", None)):
            try:
                hpb.minimize(problem, its_space, min_budget=1, max_budget=1, run_dir="run")
            except hpb.errors.ProblemError as error:
                print(error)

    if __name__ == "__main__":
        main()
    """
    out, _ = output_of(tmp_path, text)
    first, *others = out.splitlines()
    assert first.startswith("the objective reads K, which this script has set since the import")
    assert "would have another value" in first
    assert "isolation='none'" in first
    assert [each[:29] for each in others] == ["the objective reads net.K, wh"] * 3
    assert "isolation='none'" not in others[-1]
    assert not (tmp_path / "run").exists()


def test_a_global_that_the_main_block_sets_is_read_where_it_is_set(tmp_path: Path) -> None:
    text = """
    K = 1.0
    def scaled(config, budget, trial):
        return K + 0 * config["x"]

    if __name__ == "__main__":
        K = 2.0
        tell(hpb.minimize(scaled, space, isolation="none", min_budget=1, max_budget=1, workers=1, evaluations=1))
    """
    out, _ = output_of(tmp_path, text)
    assert json.loads(out)["loss"] == 2.0


def test_what_was_typed_into_a_shell_runs_in_threads_of_the_caller(tmp_path: Path) -> None:
    code = "tell(hpb.minimize(evaluate, space, isolation='none', seed=1, **about))"
    process = started(tmp_path, "-c", HEAD + code)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert json.loads(out)["budget"] == 3.0


# ---------------------------------------------------------------------------------------------------- isolation none


def in_threads(tmp_path: Path, evaluate: Any, **options: Any) -> hpb.Result:
    from ConfigSpace import ConfigurationSpace, Float

    about: dict[str, Any] = {"min_budget": 1, "max_budget": 3, "algorithm": "random", "seed": 1, "evaluations": 3}
    space = ConfigurationSpace(space=[Float("x", (0.0, 1.0))])
    about["run_dir"] = tmp_path / "run"
    return hpb.minimize(evaluate, space, isolation="none", **{**about, **options})


def test_reports_of_a_trial_that_has_ended_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callbacks: list[Any] = []

    def objective(config: dict[str, Any], budget: float, trial: Any) -> float:
        callbacks.append(trial.report)
        for report in callbacks:
            report(1, 0.5)
        return float(config["x"])

    in_threads(tmp_path, objective, workers=1)
    words = "which has ended; such points are dropped"
    infos = [each.outcome.info for each in entries(tmp_path, Recorded)]
    assert [words in str(info.get("notes")) for info in infos] == [False, True, True]
    assert capsys.readouterr().err.count(f"{words} (does a callback of a cached model keep an old trial?) (2 ev") == 1
    hints = status_from_journal(JournalReader(tmp_path / "run" / "journal.sqlite")).hints
    assert words in hints[0]


def test_whole_budgets_arrive_as_int(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    def objective(config: dict[str, Any], budget: float, trial: Any) -> float:
        seen.append((budget, trial.budget))
        return float(config["x"])

    hpb.minimize(
        objective, ConfigurationSpace({"x": (0.0, 1.0)}), min_budget=1, max_budget=10, integer_budgets=True,
        brackets=1, isolation="none", workers=1, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert set(map(repr, seen)) == {"(1, 1)", "(3, 3)", "(10, 10)"}


def test_threads_share_the_caller_s_memory_and_keep_checkpoints_like_any_worker(tmp_path: Path) -> None:
    seen: list[float] = []
    inside: set[str] = set()

    def evaluate(config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
        seen.append(config["x"])
        inside.add(threading.current_thread().name)
        (trial.directory / "state").write_text(str(config["x"]))
        return float(config["x"])

    result = in_threads(tmp_path, evaluate, workers=2)
    assert len(seen) == 3
    assert "MainThread" not in inside
    assert result.incumbent is not None
    assert result.incumbent.loss == min(seen)
    assert result.incumbent.directory is not None
    assert (result.incumbent.directory / "state").read_text() == str(min(seen))


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, 1), ({"keep_checkpoints": "best:3"}, 3), ({"keep_checkpoints": "all", "checkpoint_quota": "1kB"}, 1)],
    ids=["needed", "best", "quota"],
)
def test_when_a_search_is_over_only_the_best_keep_what_they_saved(
    options: dict[str, Any], kept: int, tmp_path: Path
) -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
        hpb.save_checkpoint(trial, {"x": [config["x"]] * 100})
        (trial.keep_directory / "events").write_text("a curve")
        return float(config["x"])

    result = in_threads(tmp_path, evaluate, workers=1, evaluations=None, algorithm="hyperband", brackets=1, **options)
    evaluations = tmp_path / "run" / "evaluations"
    assert len(result.evaluations) == 4
    assert len(list(evaluations.glob("*/rung*/attempt*/keep/events"))) == 4
    saved = {place.parts[-4] for place in evaluations.glob("*/rung*/attempt*/checkpoint.json")}
    assert len(saved) == kept
    assert result.incumbent is not None
    assert result.incumbent.directory is not None
    assert (result.incumbent.directory / "checkpoint.json").exists()
    # As if the master had been killed before it deleted anything.
    for place in evaluations.glob("*/rung*/attempt*"):
        (place / "checkpoint.json").write_text("0")
    in_threads(tmp_path, evaluate, workers=1, evaluations=None, algorithm="hyperband", brackets=1, **options)
    saved = {place.parts[-4] for place in evaluations.glob("*/rung*/attempt*/checkpoint.json")}
    assert len(saved) == (3 if options.get("keep_checkpoints") == "all" else kept)
    assert (result.incumbent.directory / "checkpoint.json").exists()


def test_a_loop_over_a_variable_is_one_search_for_each_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def searched(k: float) -> tuple[float, str]:
        result = in_threads(tmp_path, lambda config, budget, trial: k + config["x"], workers=1, run_dir=None)
        assert result.incumbent is not None
        return result.incumbent.loss - float(result.incumbent.values["x"] or 0.0), capsys.readouterr().err

    first, second = searched(1.0), searched(2.0)
    assert first[0] == pytest.approx(1.0)
    assert second[0] == pytest.approx(2.0)
    assert "-lambda-2" in second[1]
    again = searched(1.0)
    assert again[0] == pytest.approx(1.0)
    assert "nothing was evaluated: the search is over" in again[1]
    assert "to extend it, give a higher limit, for example evaluations=6; new=True begins another one" in again[1]


def test_an_exception_in_a_thread_is_a_bad_result_and_not_the_caller_s(tmp_path: Path) -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
        raise ValueError("no such thing")

    result = in_threads(tmp_path, evaluate, workers=1, evaluations=2)
    assert result.incumbent is None
    assert dict(JournalReader(tmp_path / "run" / "journal.sqlite").failures()) == {"code": 2}


def test_one_and_the_same_fault_is_reported_with_its_traceback_and_what_failed_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_mended = False

    def evaluate(config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
        if not is_mended:
            raise ValueError("no such file: train.csv")
        return float(config["x"])

    result = in_threads(tmp_path, evaluate, workers=1, evaluations=4)
    assert result.finished is not None
    assert result.finished.startswith("stopped, because the first 3 evaluations all failed")
    printed = capsys.readouterr().err
    assert "the search is over: stopped, because the first 3" in printed
    assert "ValueError: no such file: train.csv" in printed
    is_mended = True
    result = in_threads(tmp_path, evaluate, workers=1, evaluations=4, retry_failed=True)
    assert "3 failed evaluations are run again" in capsys.readouterr().err
    assert list(result.evaluations["state"]) == ["done"] * 4
    assert list(result.evaluations["attempt"]) == [2, 2, 2, 1]


def test_a_space_of_many_invalid_configurations_goes_on_when_it_is_called_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
        index = 2 * trial.config_id.bracket + trial.config_id.index
        if index < 22:
            raise ValueError(f"kernel size {index} is larger than the input")
        return float(config["x"])

    result = in_threads(tmp_path, evaluate, workers=1, evaluations=24, algorithm="random")
    assert list(result.evaluations["state"]) == ["failed"] * 10
    assert "continue the search as it is: it tries others" in capsys.readouterr().err
    # As many again would stop it a second time.
    result = in_threads(tmp_path, evaluate, workers=1, evaluations=24, algorithm="random", keep_going=True)
    assert list(result.evaluations["state"]) == ["failed"] * 22 + ["done"] * 2
    assert verify_run(RunDirectory(tmp_path / "run")).holds


def test_the_model_of_a_problem_object_is_tested_in_this_process_too(tmp_path: Path) -> None:
    from ConfigSpace import ConfigurationSpace, Float

    class Bowl:
        min_budget, max_budget = 1, 3
        tested: list[float] = []  # noqa: RUF012 (what the test looks at)

        def space(self) -> ConfigurationSpace:
            return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])

        def evaluate(self, config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
            return float(config["x"])

        def test(self, config: dict[str, Any], budget: float, trial: hpb.Trial) -> dict[str, float]:
            self.tested.append(config["x"])
            return {"x": config["x"]}

    result = hpb.minimize(
        Bowl(), isolation="none", run_dir=tmp_path / "run", algorithm="random", seed=1, evaluations=2, workers=1
    )
    assert result.incumbent is not None
    assert Bowl.tested == [result.incumbent.values["x"]]
    assert json.loads((tmp_path / "run" / "incumbent.json").read_text())["test"] == {"x": Bowl.tested[0]}


# ------------------------------------------------------------------------------------- refused before a process starts


@pytest.mark.usefixtures("described_here")
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"workers": 0}, UsageError, "workers must be at least 1, got 0"),
        ({"timeout_s": 0}, UsageError, "timeout_s must be above 0 seconds, got 0"),
        ({"keep_checkpoints": "some"}, UsageError, "keep_checkpoints must be one of needed, all, best:N, got 'some'"),
        ({"isolation": "process"}, UsageError, "isolation must be one of trainer, none, got 'process'"),
        ({"isolation": "none", "timeout_s": 5.0}, UsageError, "a time limit needs isolation='trainer'"),
        ({"threads": 0}, UsageError, "threads must be at least 1, got 0"),
        ({"gpus_per_worker": 0}, UsageError, "gpus_per_worker must be at least 1, got 0"),
        ({"gpus": "GPU-none,"}, UsageError, "write all, a number, or tokens separated by commas"),
        ({"gpus": 1_000}, UsageError, "gpus=1000, but"),
        ({"min_budget": 9, "max_budget": 1}, UsageError, "min_budget"),
        ({"evaluations": 0}, UsageError, "evaluations must be above zero, got 0"),
        ({"algorithm": "tpe"}, UsageError, "algorithm must be one of"),
        ({"seed": -1}, UsageError, "seed must be in"),
    ],
)
def test_input_that_cannot_be_is_refused_before_anything_is_made(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        hpb.minimize("counting_ones", run_dir=tmp_path / "run", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_space_beside_a_problem_that_has_one_is_refused(tmp_path: Path) -> None:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.workers import counting_ones

    for problem in ("counting_ones", counting_ones):
        with pytest.raises(UsageError, match="has its own space; leave space out"):
            hpb.minimize(problem, ConfigurationSpace(), run_dir=tmp_path / "run")


def test_a_class_whose_instances_evaluate_nothing_is_refused(tmp_path: Path) -> None:
    from ConfigSpace import ConfigurationSpace

    untyped: Any = float
    with pytest.raises(UsageError, match="got <class 'float'>, whose instances have none"):
        hpb.minimize(untyped, ConfigurationSpace(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_function_without_a_space_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"call minimize\(objective_of_a_test, space\)"):
        hpb.minimize(objective_of_a_test, run_dir=tmp_path / "run", max_budget=3, min_budget=1)


def test_an_unknown_problem_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="counting_ones"):
        hpb.minimize("countin_ones", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunDirectoryError, match="is not a directory; give another run directory"):
        hpb.minimize("counting_ones", run_dir=tmp_path / "run")


def objective_of_a_test(config: dict[str, Any], budget: float, trial: hpb.Trial) -> float:
    return 0.0


def test_what_is_to_be_large_is_shown_in_its_own_sign_from_the_objective_to_every_command(tmp_path: Path) -> None:
    def accuracy(config: dict[str, Any], budget: float, trial: hpb.Trial) -> dict[str, float]:
        value = 1 - (config["x"] - 0.25) ** 2 / budget
        trial.report(budget, value)
        return {"value": value, "epochs": budget}

    about = {"maximize": True, "evaluations": 4, "algorithm": "hyperband", "target_loss": 2.0}
    result = in_threads(tmp_path, accuracy, **about)
    best, rows = result.incumbent, result.evaluations
    assert best is not None
    assert isinstance(best.values["x"], float)
    assert best.loss == 1 - (best.values["x"] - 0.25) ** 2 / best.budget == rows[rows["budget"] == 3]["loss"].max()
    assert [each.loss for each in result.trajectory][-1] == best.loss
    assert set(result.learning_curves["loss"]) == set(rows["loss"])
    assert f"value {best.loss:g} at budget 3" in repr(result)
    reader = JournalReader(tmp_path / "run" / "journal.sqlite")
    assert {row["loss"] for row in reader.evaluations()} == {-loss for loss in rows["loss"]}
    assert json.loads((tmp_path / "run" / "incumbent.json").read_text())["loss"] == best.loss
    assert "maximize = true" in (tmp_path / "run" / "search.toml").read_text()
    for name in ("status", "best", "list"):
        output = CliRunner().invoke(make_app(), [name, str(tmp_path / "run")]).output
        assert f"{best.loss:.6g}" in output, name
        assert "value" in output, name
        assert "loss" not in output, name
    with pytest.raises(ResumeError, match="direction: maximize in the journal, minimize requested"):
        in_threads(tmp_path, accuracy, algorithm="hyperband", maximize=False)
    assert result.limits.target_loss == 2.0
    assert verify_run(RunDirectory(tmp_path / "run")).holds
