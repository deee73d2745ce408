"""What a script sets under its main block is not there when other processes import it."""

from __future__ import annotations

import io
import logging
import sys
import textwrap
import types
from pathlib import Path

import pytest

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems import reference_of
from hpbandster_lite.problems.set_later import set_later
from hpbandster_lite.problems.statements import names_set_later

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
    assert names_set_later(Path(str(script.__file__))) == {"math", "path", "K", "inner", "TABLE", "late", "file"}
    assert names_set_later(Path("/nowhere.py")) == set()


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
    settings, script = types.ModuleType("settings_of_mine"), types.ModuleType("__main__")
    exec("K = M = 1\ndef evaluate(c, b, t): return K", vars(settings))  # noqa: S102 (as above)
    monkeypatch.setitem(sys.modules, settings.__name__, settings)
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(CALLED)
    exec(f"{CALLED}\nmade = {problem}", vars(script))  # noqa: S102 (as above)
    assert set_later(script.made, script) == names


SETTINGS = """
K, TABLE, UNSET = 1, {"k": 1}, 1
class Config:
    k = 1
    def load(self, k): self.k = k
config = Config()
def set_k(k):
    global K
    K = k
def evaluate(c, b, t): return K
def of_table(c, b, t): return TABLE["k"]
def of_config(c, b, t): return config.k
def of_unset(c, b, t): return UNSET
"""
OUTSIDE = """
import os
import sys
import settings_of_mine
from settings_of_mine import config
K, L, SAME, TABLE, LAZY, args, NESTED = 1, 1, 1, {}, None, None, {"a": {}}
def evaluate(c, b, t): return K
def of_l(c, b, t): return L
def of_same(c, b, t): return SAME
def of_args(c, b, t): return args.k
def of_table(c, b, t): return TABLE
def of_nested(c, b, t): return NESTED
def of_config(c, b, t): return config.k
def of_module(c, b, t):
    import settings_of_mine as mine
    return mine.K
def of_process(c, b, t): return os.environ["OF_MINE"], sys.argv, sys.stdout
FILLED = []
def fills(c, b, t): FILLED.append(1)
def reads_filled(c, b, t): return FILLED
def lazy(c, b, t):
    global LAZY
    LAZY = LAZY or 3
    return LAZY
def register(function):
    TABLE[function.__name__] = function
    return function
@register
def registered(c, b, t): return TABLE
def early():
    global L
    L = 2
early()
def main():
    import settings_of_mine as mine
    %s
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("statement", "problem", "names"),
    [
        ("globals()['K'] = 3", "evaluate", ["K"]),
        ("globals().update(K=3)", "evaluate", ["K"]),
        ("globals().update({'K': 3})", "evaluate", ["K"]),
        ("exec('K = 3', globals())", "evaluate", ["K"]),
        ("exec('K = 1', globals())", "evaluate", []),
        ("global SAME; SAME = 1", "of_same", []),
        ("global args; args = mine.Config()", "of_args", ["args"]),
        ("NESTED['a']['b'] = 1", "of_nested", ["NESTED"]),
        ("pass", "of_l", []),
        ("pass", "of_table", []),
        ("pass", "registered", []),
        ("lazy(0, 0, 0)", "lazy", []),
        ("mine.K = 3", "of_module", ["settings_of_mine.K"]),
        ("mine.K = 3", "mine.evaluate", ["settings_of_mine.K"]),
        ("mine.K = 3", "mine", ["settings_of_mine.K"]),
        ("mine.K = 3", "mine.of_unset", []),
        ("vars(mine)['K'] = 3", "mine.evaluate", ["settings_of_mine.K"]),
        ("setattr(mine, 'K', 3)", "mine.evaluate", ["settings_of_mine.K"]),
        ("mine.set_k(3)", "mine.evaluate", ["settings_of_mine.K"]),
        ("mine.set_k(1)", "mine.evaluate", []),
        ("from settings_of_mine import set_k; set_k(3)", "of_module", ["settings_of_mine.K"]),
        ("mine.TABLE['k'] = 3", "mine.of_table", ["settings_of_mine.TABLE"]),
        ("mine.TABLE.update(k=3)", "mine.of_table", ["settings_of_mine.TABLE"]),
        ("table = mine.TABLE; table['k'] = 3", "mine.of_table", ["settings_of_mine.TABLE"]),
        ("mine.config.k = 3", "mine.of_config", ["settings_of_mine.config"]),
        ("config.k = 3", "mine.of_config", ["config"]),
        ("config.load(3)", "of_config", ["config"]),
        ("mine.config.load(3)", "mine.of_config", ["settings_of_mine.config"]),
        ("mine.Config.k = 3", "mine.of_config", ["settings_of_mine.Config"]),
        ("evaluate.k = 3", "evaluate", ["evaluate"]),
        ("fills(0, 0, 0); FILLED.clear(); FILLED.append(1)", "fills", []),
        ("FILLED.append(1)", "reads_filled", ["FILLED"]),
        ("os.environ['OF_MINE'] = '1'; sys.argv = sys.argv; sys.stdout.k = 1", "of_process", []),
        ("lambda torch: torch.set_default_dtype(torch.float64)", "evaluate", ["torch's default dtype"]),
        ("import logging; logging.getLogger().level = 10", "evaluate", []),
    ],
)
def test_what_a_script_sets_in_any_module(
    statement: str, problem: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_MINE", "0")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "level", logging.getLogger().level)
    settings, script = types.ModuleType("settings_of_mine"), types.ModuleType("__main__")
    for module, text in ((settings, SETTINGS), (script, OUTSIDE % statement)):
        file = tmp_path / f"{module.__name__}.py"
        file.write_text(text)
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(text, str(file), "exec"), vars(module))  # noqa: S102 (as Python runs a script)
    made = eval(problem, {**vars(script), "mine": settings})  # noqa: S307 (as above)
    assert set_later(made, script, is_of_script=not problem.startswith("mine")) == names


def test_what_the_top_level_of_a_script_sets_in_a_module_that_workers_import_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import settings_of_mine\nsettings_of_mine.K = 3\ndef evaluate(c, b, t): return settings_of_mine.K\n"
    settings, script = types.ModuleType("settings_of_mine"), types.ModuleType("__main__")
    for module, its_text in ((settings, SETTINGS), (script, text)):
        file = tmp_path / f"{module.__name__}.py"
        file.write_text(its_text)
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(its_text, str(file), "exec"), vars(module))  # noqa: S102 (as above)
    assert set_later(script.evaluate, script) == []
    assert set_later(settings.evaluate, script, is_of_script=False) == ["settings_of_mine.K"]


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
