"""Which files are the source of a problem, their hashes, and the differences between two sources.

Law of this file: the process that describes a problem lists its files once; other processes hash the listed files of
their host and list none. It reads files and imports none. Other distributions, virtual environments, hpbandster_lite
itself and run directories do not count.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems.opened_files import OpenedFiles
from hpbandster_lite.problems.source_text import ABSENT, hash_of_bytes, hash_of_file, parsed
from hpbandster_lite.records import ProblemSource, SourceFile
from hpbandster_lite.records.decorator import record

MADE = "made"
"""Begins the hash of a file that the problem itself wrote while it was described; stands alone in older sources."""
UNSET = "unset"
ARGUMENTS_DIFFER = "the script's arguments (sys.argv), which it reads when it is imported, are others"
ARGUMENTS_REMEDY = (
    "declare them as options of the problem, which every worker of the search gets, or read them under "
    'if __name__ == "__main__":'
)
OURS = __name__.partition(".")[0]
_LIBRARIES = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})
_OF_A_RUN = frozenset(
    {"journal.sqlite", "key", "nameserver.key", "endpoint.json", "lock", "search.toml", "incumbent.json", "refit.json"}
    | {"logs", "reports", "evaluations", "tls"}
)
"""Names of files of a run, for a problem's folder that is also a run directory."""


@record(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """The folders of a source's files on this host: the problem's folder, and the folders of modules, by name."""

    folder: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)

    def path_of(self, listed: str) -> Path | None:
        """The path of a listed file on this host; None if its folder is unknown."""
        module, mark, rest = listed.partition(":")
        if mark and module in self.modules:
            return Path(self.modules[module], rest)
        return Path(self.folder, listed) if self.folder or listed.startswith("/") else None


def digest_of(source: ProblemSource | None, source_hash: str) -> str:
    """One text for a whole source, which a master compares; ``source_hash`` is for a source of method 1."""
    if source is None:
        return f"1:{source_hash}"
    parts = [f"{each.path}={each.hash}" for each in source.files] + [f"${k}={v}" for k, v in source.environment.items()]
    parts += [f"{name}={found}" for name, found in source.function.items()]
    parts += [f"sys.argv={source.arguments}"] if source.arguments else []
    return f"{source.method}:{source.version}:{hash_of_bytes(chr(10).join(sorted(parts)).encode('utf-8', 'replace'))}"


def hashed_here(listed: ProblemSource, tree: SourceTree, imported: ProblemSource) -> ProblemSource:
    """A listed source with the hashes of this host's files.

    Parameters
    ----------
    listed
        The source of the search.
    tree
        The folders of the files on this host.
    imported
        The source when this host imported the problem. Its hashes take precedence, because a Python file may have been
        edited since.
    """
    known = {each.path: each for each in imported.files}
    files = []
    for each in listed.files:
        path = tree.path_of(each.path)
        if _is_made(each.hash) or each.path in known:
            files.append(each if _is_made(each.hash) else known[each.path])
        else:
            files.append(replace(each, hash=ABSENT if path is None else hash_of_file(path)))
    return replace(
        listed,
        version=imported.version,
        files=tuple(files),
        environment={name: hash_of_variable(name) for name in listed.environment},
        arguments=imported.arguments,
    )


def hash_of_variable(name: str) -> str:
    """The hash of an environment variable; the value may be a secret, so it is not stored."""
    value = os.environ.get(name)
    return UNSET if value is None else hash_of_bytes(f"{name}={value}".encode("utf-8", "surrogateescape"))


def source_differences(accepted: ProblemSource, found: ProblemSource) -> tuple[str, ...]:
    """The differences between two sources of one problem, one text for each part; empty if they are the same.

    A file that only the later source has counts if it is data. A new module does not count, because another file must
    have been edited to import it.
    """
    if accepted.version != found.version:
        return (f"its version was {_version(accepted)} and is {_version(found)}",)
    before, now = ({each.path: each.hash for each in source.files} for source in (accepted, found))
    differences = []
    for path, was in before.items():
        is_now = now.get(path, was)
        if was.removeprefix(f"{MADE}:") != is_now and was != MADE and not _is_made(is_now):
            differences.append(f"{path} {_change(was, is_now)}")
    for path, is_now in now.items():
        if path not in before and is_now != ABSENT and not _is_made(is_now) and not path.endswith(".py"):
            differences.append(f"{path} is read now, but was not read before")
    differences += [
        f"the environment variable {name} has another value"
        for name in {**accepted.environment, **found.environment}
        if accepted.environment.get(name, UNSET) != found.environment.get(name, UNSET)
    ]
    differences += [ARGUMENTS_DIFFER] if accepted.arguments != found.arguments else []
    return (*differences, *_function_differences(accepted, found))


def is_function(source: ProblemSource) -> bool:
    """Whether a source is that of a function or an object that no other process can import."""
    return bool(source.function or source.not_comparable)


def _function_differences(accepted: ProblemSource, found: ProblemSource) -> list[str]:
    if is_function(accepted) != is_function(found):
        return [f"it {'was' if is_function(accepted) else 'is now'} a function that no other process can import"]
    if accepted.not_comparable or found.not_comparable:
        return []
    names = [name for name, was in accepted.function.items() if found.function.get(name, was) != was]
    new = [f"{name} is new" for name in found.function if name not in accepted.function]
    gone = [f"{name} is gone" for name in accepted.function if name not in found.function]
    return [f"{name} is another one" for name in names] + new + gone


def _is_made(hash_of_a_file: str) -> bool:
    return hash_of_a_file.partition(":")[0] == MADE


def _change(was: str, is_now: str) -> str:
    if is_now == ABSENT:
        return "is missing"
    return "is new" if was == ABSENT else "is another one"


def _version(source: ProblemSource) -> str:
    return "none" if source.version is None else str(source.version)


# ------------------------------------------------------------------------------------------------------- of a problem


def file_of(problem: Any) -> Path | None:
    """The file of the module that defines a problem's ``evaluate``; None if there is none."""
    module: Any = problem
    if not isinstance(problem, ModuleType):
        evaluate = problem.evaluate
        while isinstance(evaluate, functools.partial):
            evaluate = evaluate.func
        module = sys.modules.get(getattr(inspect.unwrap(evaluate), "__module__", None) or "")
    return file_of_module(module)


def file_of_module(module: ModuleType | None) -> Path | None:
    """The file of a module; None if the module has no file."""
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file is not None and Path(file).is_file() else None


def shipped_version(problem: Any, module: ModuleType | None) -> int | None:
    """The version of a problem that this distribution ships; None for other problems.

    A problem without an attribute ``version`` has version 1.
    """
    if module is None or module.__name__.partition(".")[0] != OURS:
        return None
    return int(getattr(problem, "version", 1))


def source_tree(problem: Any, module: ModuleType | None) -> SourceTree:
    """The folders of a loaded problem's files; ``module`` is the module that its reference names."""
    main = file_of_module(module) or file_of(problem)
    modules = {name: str(file_of_name(name).parent) for name in _named(problem, "source_modules")}
    return SourceTree(folder="" if main is None else str(_Folder.of(main).path), modules=modules)


def hashes_with_imports(file: Path) -> dict[str, str]:
    """The hashes of a module's file and of the modules below its folder that it imports, by their paths there."""
    folder = _Folder.of(file.resolve())
    found = _with_imports([file.resolve()], folder, [folder.path])
    return {folder.name_of(path): hash_of_file(path) for path in sorted(found)}


def hashes_of_import(dotted: str, names: Iterable[str], base: Path) -> dict[str, str]:
    """The hashes of the files below ``base`` that importing these names of a module reads, by their paths there."""
    base = base.resolve()
    folder = _Folder(base, None)
    files = [file for name in ("", *names) for file in _files_of(f"{dotted}.{name}".rstrip("."), [base])]
    found = _with_imports(files, folder, [base])
    return {folder.name_of(path): hash_of_file(path) for path in sorted(found)}


def source_of(
    problem: Any,
    module: ModuleType | None,
    *,
    opened: OpenedFiles | None = None,
    path_before: Sequence[str] = (),
    is_named_only: bool = False,
) -> ProblemSource:
    """List and hash the source of a loaded problem.

    Parameters
    ----------
    problem
        The problem.
    module
        The module that its reference names; None if the reference names none.
    opened
        The files that a process which only describes this problem has opened; then the loaded modules count too.
        Default: None, for a process that may have loaded other modules.
    path_before
        ``sys.path`` before the problem was loaded. Default: empty.
    is_named_only
        Whether only the files that the problem names count, for a problem that no other process can import. Default:
        False.

    Raises
    ------
    ProblemError
        If the problem names a module or a file that does not exist, or a list of names is not a list of strings.
    """
    version = shipped_version(problem, module)
    if version is not None:
        return ProblemSource(version=version)
    if opened is not None:
        opened.stop()
    found: dict[str, str] = {}
    main = file_of_module(module) or file_of(problem)
    if main is not None:
        folder = _Folder.of(main)
        if not is_named_only:
            found |= _files_of_problem(problem, main, folder, opened, path_before)
        for path in _named_files(problem, main):
            found[folder.name_of(path)] = hash_of_file(path)
    for name in _named(problem, "source_modules"):
        found |= _of_named_module(name)
    return ProblemSource(
        files=tuple(SourceFile(path=path, hash=found[path]) for path in sorted(found)),
        environment={name: hash_of_variable(name) for name in _named(problem, "source_environment")},
        file="" if main is None else str(main),
        host=os.uname().nodename,
    )


def _files_of_problem(
    problem: Any, main: Path, folder: _Folder, opened: OpenedFiles | None, path_before: Sequence[str]
) -> dict[str, str]:
    """The hashes of the problem's own files, and of those that were opened while it was described."""
    bases = _entries_below(folder.path, path_before)
    starts = [main, *folder.package_files(), *filter(folder.counts, filter(None, [file_of(problem)]))]
    if opened is not None:
        starts += filter(folder.counts, _loaded())
    found = {folder.name_of(path): hash_of_file(path) for path in _with_imports(starts, folder, [folder.path, *bases])}
    return found if opened is None else found | _data_files(opened, folder, found)


def _loaded() -> list[Path]:
    """The files of all modules of this process; the path of a link is the link, not its target."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = [Path(file) for file in files if isinstance(file, str)]
    return [path.parent.resolve() / path.name for path in paths if path.is_file()]


class _Folder:
    """The folder of a problem: the folder of its file, or the folder that contains its outermost package."""

    def __init__(self, path: Path, package: Path | None) -> None:
        self.path = path
        self._package = package
        self._is_library = _LIBRARIES.intersection(path.parts) != set() or _is_environment(path)
        self._ours = {Path(__file__).resolve().parents[1]}
        for name in ("workers", "nameserver"):
            spec = importlib.util.find_spec(f"{OURS}.{name}")
            if spec is not None and spec.origin is not None:
                self._ours.add(Path(spec.origin).resolve().parent)

    @classmethod
    def of(cls, main: Path) -> _Folder:
        folder, package = main.parent, None
        while (folder / "__init__.py").is_file():
            package, folder = package or folder, folder.parent
        return cls(folder, package)

    def package_files(self) -> list[Path]:
        """All Python files of the problem's package."""
        if self._package is None:
            return []
        return [path for path in sorted(self._package.rglob("*.py")) if self.counts(path)]

    def name_of(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else str(path)

    def counts(self, path: Path) -> bool:
        """Whether a file belongs to the problem by its path."""
        if self.path not in path.parents or any(path.is_relative_to(ours) for ours in self._ours):
            return False
        inner = path.relative_to(self.path)
        if self._is_library and (self._package is None or inner.parts[0] != self.name_of(self._package).split("/")[0]):
            return False
        folders = list(inner.parts[:-1])
        if _LIBRARIES.intersection(folders) or any(name.startswith(".") for name in folders):
            return False
        return not any(_is_apart(self.path.joinpath(*folders[:count])) for count in range(1, len(folders) + 1))

    def path_of_opened(self, path: Path) -> Path | None:
        """The path below this folder of an opened file that counts; None if it does not count.

        A file in a folder to which a link below this folder leads counts, unless it is a module.
        """
        resolved = _resolved_folder(path.parent) / path.name
        if self.counts(resolved):
            return resolved
        if path.suffix not in (".py", ".pyc"):
            for above in path.parents:
                if _resolved_folder(above) == self.path:
                    below = self.path / path.relative_to(above)
                    return below if self.counts(below) else None
        return None

    def has_run(self, path: Path) -> bool:
        """Whether a file belongs to a search whose run directory is the problem's folder."""
        first = path.relative_to(self.path).parts[0]
        return first.startswith("journal.") or (first in _OF_A_RUN and (self.path / "journal.sqlite").exists())


def _is_apart(folder: Path) -> bool:
    return _is_environment(folder) or (folder / "journal.sqlite").exists()


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").is_dir()


@functools.lru_cache(maxsize=1024)
def _resolved_folder(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError):
        return folder


def _resolved(entry: str) -> Path:
    return Path(entry or ".").resolve()


def _entries_below(folder: Path, path_before: Sequence[str]) -> list[Path]:
    """The entries of ``sys.path`` below a folder, except installed ones."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    installed = {*map(_resolved, path_before)} - {*map(_resolved, given)}
    entries = dict.fromkeys(map(_resolved, sys.path))
    return [entry for entry in entries if entry not in {folder, *installed} and entry.is_relative_to(folder)]


# ------------------------------------------------------------------------------------------------- imported modules


def _with_imports(starts: Iterable[Path], folder: _Folder, bases: Sequence[Path]) -> list[Path]:
    """The given files, and the modules below the folder that they import, directly or indirectly."""
    waiting = list(dict.fromkeys(starts))
    found = dict.fromkeys(waiting)
    while waiting:
        path = waiting.pop()
        for imported in _imported_by(path, bases):
            if imported not in found and folder.counts(imported):
                found[imported] = None
                waiting.append(imported)
    return list(found)


def _imported_by(path: Path, bases: Sequence[Path]) -> Iterator[Path]:
    if path.suffix != ".py":
        return
    try:
        tree = parsed(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for each in names:
                    yield from _files_of(each.name, bases)
            case ast.ImportFrom(module=module, names=names, level=level):
                start = [path.parents[level - 1]] if 0 < level <= len(path.parents) else bases
                for each in names:
                    yield from _files_of(".".join(filter(None, (module, each.name))), start)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                    yield from _files_of(node.args[0].value, bases)
            case _:
                pass


def _files_of(dotted: str, bases: Sequence[Path]) -> Iterator[Path]:
    """The files of a module and of the packages around it; for a name in a module, the module's files."""
    for base in bases:
        place, is_found = base, False
        for name in dotted.split("."):
            init, single = place / name / "__init__.py", place / f"{name}.py"
            if init.is_file():
                is_found = True
                yield init
            elif single.is_file():
                yield single
                return
            elif not (place / name).is_dir():
                break
            place = place / name
        if is_found:
            return


# -------------------------------------------------------------------------------------------- what the problem names


def _named(problem: Any, attribute: str) -> Sequence[str]:
    named = getattr(problem, attribute, ())
    if isinstance(named, str) or not all(isinstance(name, str | os.PathLike) for name in named):
        raise ProblemError(f"{attribute} is {named!r}; it must be a list of names")
    return [str(name) for name in named]


def _named_files(problem: Any, main: Path) -> Iterator[Path]:
    for name in _named(problem, "source_files"):
        path = (main.parent / name).resolve()
        if path.is_dir():
            yield from (inner for inner in sorted(path.rglob("*")) if inner.is_file())
        elif path.is_file():
            yield path
        else:
            raise ProblemError(f"source_files names {name!r}, and there is no file {path}; correct the name")


def _of_named_module(name: str) -> dict[str, str]:
    file = file_of_name(name)
    parts = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return {f"{name}:{part.relative_to(file.parent).as_posix()}": hash_of_file(part) for part in parts}


def file_of_name(name: str) -> Path:
    """The file of a module in ``source_modules``; the module is not imported."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise ProblemError(f"source_modules names {name!r}, and Python finds no file of that module; correct the name")
    return Path(found.origin)


def _data_files(opened: OpenedFiles, folder: _Folder, known: Mapping[str, str]) -> dict[str, str]:
    """The opened files below the folder, with their hashes, without Python's cache."""
    found: dict[str, str] = {}
    for path, is_written in opened.paths():
        below = folder.path_of_opened(path)
        if below is None or folder.has_run(below) or folder.name_of(below) in known or below.suffix == ".pyc":
            continue
        if below.exists() and not below.is_file():
            continue
        if not is_written:
            found[folder.name_of(below)] = hash_of_file(below)
        elif below.exists():
            # Temporary files do not exist any more.
            found[folder.name_of(below)] = f"{MADE}:{hash_of_file(below)}"
    return found
