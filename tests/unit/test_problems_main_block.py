"""What a script sets under its main block is not there when other processes import it."""

from __future__ import annotations

import sys
import textwrap
import types
from pathlib import Path

import pytest

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems import reference_of
from hpbandster_lite.problems.main_block import names_bound, set_later

SCRIPT = """
import math
K, M, UNUSED = 1, 1, 1
def helper(): return K
def evaluate(c, b, t): return helper()
def other(c, b, t): return math.pi + M
class Bowl:
    k = 1
    def evaluate(self, c, b, t): return self.k
class Deep(Bowl):
    def test(self, c, b, t): return helper()
bowl, deep = Bowl(), Deep()
def keyword(c, b, t): return UNUSED
if __name__ == "__main__":
    import math
    from os import path
    for K in (1, 2):
        inner = lambda x: (y := x)
    bowl.k = 3
    TABLE = {}
    TABLE["k"] = 1
    def late(): z = 1
    with open(__file__) as file:
        pass
"""


@pytest.fixture
def script(tmp_path: Path) -> types.ModuleType:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    module = types.ModuleType("__main__")
    module.__file__ = str(file)
    exec(compile(SCRIPT, str(file), "exec"), vars(module))  # noqa: S102 (as Python runs a script)
    return module


def test_the_names_that_the_block_binds(script: types.ModuleType) -> None:
    assert names_bound(Path(str(script.__file__))) == {"math", "path", "K", "inner", "TABLE", "late", "file"}
    assert names_bound(Path("/nowhere.py")) == set()


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ("evaluate", ["K"]),
        ("other", []),
        ("keyword", []),
        ("bowl", ["bowl"]),
        ("deep", ["K"]),
        ("deep.evaluate", ["K"]),
        ("functools.partial(evaluate, 1)", ["K"]),
        ("lambda c, b, t: K + UNUSED", ["K"]),
    ],
)
def test_what_a_problem_reads_and_the_block_sets(problem: str, names: list[str], script: types.ModuleType) -> None:
    exec(f"import functools\nmade = {problem}", vars(script))  # noqa: S102 (as above)
    assert set_later(script.made, script) == names


CALLED = """
import math, settings_of_mine
K, CONFIG, FREE, CACHE, LIST = 1, {}, 1, None, []
class Args: a = 1
def evaluate(c, b, t): return K
def config(c, b, t): return CONFIG["k"]
def cached(c, b, t): return data()
def free(c, b, t): return FREE
def args(c, b, t): return Args.a
def of_module(c, b, t): return settings_of_mine.K + math.pi
def other_of_module(c, b, t): return settings_of_mine.M
def items(c, b, t): return LIST
def data():
    global CACHE
    CACHE = CACHE or 1
    return CACHE
def inner():
    CONFIG.update(k=3)
    settings_of_mine.K = 3
    setattr(Args, "a", 2)
    return data()
def main():
    global K
    FREE = 2
    FREE += 1
    for K in (1, 2):
        inner()
    Runner().run()
class Runner:
    def run(self):
        LIST.append(1)
def not_called():
    global FREE
    FREE = 3
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ("evaluate", ["K"]),
        ("config", ["CONFIG"]),
        ("cached", []),
        ("free", []),
        ("args", ["Args"]),
        ("items", ["LIST"]),
        ("of_module", ["settings_of_mine.K"]),
        ("other_of_module", []),
        ("settings_of_mine.evaluate", ["settings_of_mine.K"]),
    ],
)
def test_what_the_functions_set_that_the_block_calls(
    problem: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, script = types.ModuleType("settings_of_mine"), types.ModuleType("script_of_mine")
    exec("K = M = 1\ndef evaluate(c, b, t): return K", vars(settings))  # noqa: S102 (as above)
    monkeypatch.setitem(sys.modules, settings.__name__, settings)
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(CALLED)
    exec(f"{CALLED}\nmade = {problem}", vars(script))  # noqa: S102 (as above)
    assert set_later(script.made, script) == names


def test_what_the_block_binds_has_no_import_path(script: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec("half = object()\nTABLE = object()", vars(script))  # noqa: S102 (as above)
    for name in ("evaluate", "bowl", "half"):
        assert reference_of(getattr(script, name)) == f"{script.__file__}:{name}"
    for name in ("late", "inner", "TABLE"):
        with pytest.raises(ProblemError, match="other processes cannot import"):
            reference_of(getattr(script, name))


def test_a_script_without_a_block_sets_nothing(tmp_path: Path) -> None:
    text = textwrap.dedent("K = 1\ndef evaluate(c, b, t): return K")
    module = types.ModuleType("__main__")
    module.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(text)
    exec(text, vars(module))  # noqa: S102 (as Python runs a script)
    assert set_later(module.evaluate, module) == []
    del module.__file__
    assert set_later(module.evaluate, module) == []
