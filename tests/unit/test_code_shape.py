"""The shape of the code: short functions, few broad exception handlers, plain words, reasons for exemptions.

The length of a function counts its lines of code: no docstring, no comments, no blank lines. A broad handler catches
``Exception`` or ``BaseException``, or everything. An exemption is a comment that silences ruff or mypy; its reason
stands behind it or in a comment on the line above.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.unit.test_rooms import FLOOR, REPOSITORY, room_of, sources

LONGEST_FUNCTION = 60
USUAL_FUNCTION = 18
SHARE_OF_USUAL_FUNCTIONS = 0.9
HANDLERS_PER_BROAD_ONE = 20
OBSCURE_WORDS = re.compile(r"(?<![a-z])(told|heard|said|spoken|whoever|nobody|somebody)(?![a-z])", re.IGNORECASE)
"""Words that neither identifiers nor prose contain. Data is given, received, reported, configured or recorded."""
_TEST_NAMES_AND_TEXTS = re.compile(
    r"""\btest_\w+|(?<!")"(?!")(?:[^"\\\n]|\\.)*"(?!")|(?<!')'(?!')(?:[^'\\\n]|\\.)*'(?!')"""
)
"""Names of tests, and texts in one line that are not docstrings."""
_EXEMPTION = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[a-z, -]+\])?")
_REASON = re.compile(r"\w[\w'-]* \w{2,}")
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Function:
    place: str
    n_lines: int


@dataclass(frozen=True)
class Handler:
    place: str
    is_broad: bool
    has_reason: bool


def functions(path: Path, text: str) -> Iterator[Function]:
    code = _lines_of(text, comments=False)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = code & _lines(node)
            if ast.get_docstring(node) is not None:
                lines -= _lines(node.body[0])
            yield Function(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}", len(lines))


def handlers(path: Path, text: str) -> Iterator[Handler]:
    comments = _lines_of(text, comments=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            is_broad = node.type is None or re.search(r"\b(Base)?Exception\b", caught) is not None
            reason = comments & set(range(node.lineno, node.body[0].lineno + 1))
            yield Handler(f"{path.relative_to(REPOSITORY)}:{node.lineno}", is_broad, bool(reason))


def obscure_words(path: Path, text: str) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}:{number}: {found[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for found in OBSCURE_WORDS.finditer(line)
    ]


def exemptions_without_reason(path: Path, text: str) -> list[str]:
    lines = text.splitlines()
    return [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for number, line in enumerate(lines, start=1)
        if (found := _EXEMPTION.search(line))
        and not _REASON.search(_EXEMPTION.sub("", line[found.start() :]))
        and not (number > 1 and lines[number - 2].strip().startswith("#"))
    ]


def _lines(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _lines_of(text: str, *, comments: bool) -> set[int]:
    """Numbers of the lines with code, or of those with a comment."""
    return {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if (token.type == tokenize.COMMENT if comments else token.type not in _NO_CODE)
        for line in range(token.start[0], token.end[0] + 1)
    }


@cache
def package() -> tuple[tuple[Path, str, str], ...]:
    """Path, room and text of every source file."""
    return tuple((path, room_of(place), path.read_text("utf-8")) for path, place in sources(REPOSITORY))


# ------------------------------------------------------------------------------------------- this repository


def test_no_function_is_long() -> None:
    found = [each for path, _, text in package() for each in functions(path, text)]
    assert [each for each in found if each.n_lines > LONGEST_FUNCTION] == []


def test_most_functions_are_short() -> None:
    found = [each for path, _, text in package() for each in functions(path, text)]
    usual = [each for each in found if each.n_lines <= USUAL_FUNCTION]
    assert len(usual) >= SHARE_OF_USUAL_FUNCTIONS * len(found)


def test_broad_handlers_are_rare_and_say_why_they_are_broad() -> None:
    found = [each for path, _, text in package() for each in handlers(path, text)]
    broad = [each for each in found if each.is_broad]
    assert [each.place for each in broad if not each.has_reason] == []
    assert len(broad) * HANDLERS_PER_BROAD_ONE <= len(found), "\n".join(each.place for each in broad)


def test_each_exemption_from_a_check_has_its_reason() -> None:
    texts = [(path, text) for path, _, text in package()]
    tests = set((REPOSITORY / "tests").rglob("*.py")) - {Path(__file__)}
    texts += [(path, path.read_text("utf-8")) for path in sorted(tests)]
    assert [found for path, text in texts for found in exemptions_without_reason(path, text)] == []


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_words_are_plain(room: str) -> None:
    assert [found for path, here, text in package() if here == room for found in obscure_words(path, text)] == []


def test_words_of_the_tests_are_plain() -> None:
    found = []
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        lines = path.read_text("utf-8").splitlines()
        suspects = ((number, line) for number, line in enumerate(lines, start=1) if OBSCURE_WORDS.search(line))
        found += [
            f"{path.relative_to(REPOSITORY)}:{number}: {word[0]}"
            for number, line in suspects
            for word in OBSCURE_WORDS.finditer(_TEST_NAMES_AND_TEXTS.sub("", line))
        ]
    assert found == []


# ------------------------------------------------------------------------------------- the checks themselves


FUNCTION = '''
def f(
    a,
):
    """Two
    lines."""

    # A comment.
    return """one
    two"""
'''
HANDLERS = """
try:
    f()
except ValueError:
    pass
except (OSError, Exception):  # the caller decides
    pass
except BaseException:
    # It is raised again.
    raise
except:
    raise
"""


def test_the_length_of_a_function_is_its_lines_of_code() -> None:
    assert [each.n_lines for each in functions(REPOSITORY / "x.py", FUNCTION)] == [5]


def test_a_broad_handler_and_its_reason_are_found() -> None:
    found = [(each.is_broad, each.has_reason) for each in handlers(REPOSITORY / "x.py", HANDLERS)]
    assert found == [(False, False), (True, True), (True, True), (True, False)]


@pytest.mark.parametrize(
    ("comment", "has_reason"),
    [
        ("noqa: S102, S105", False),
        ("type: ignore[arg-type, index]  # noqa: F401", False),
        ("type: ignore[index]  # torch's", False),
        ("noqa: S102 (made of our own names)", True),
        ("type: ignore[index]  # a stand-in", True),
    ],
)
def test_an_exemption_without_words_is_found(comment: str, has_reason: bool) -> None:
    assert (exemptions_without_reason(REPOSITORY / "x.py", f"f()  # {comment}") == []) is has_reason
    assert exemptions_without_reason(REPOSITORY / "x.py", f"# The reason.\nf()  # {comment}") == []


@pytest.mark.parametrize("line", ["def told_threads", "class _Heard", "# It is said.", "Whoever", "_spoken = 1"])
def test_an_obscure_word_is_found_in_names_and_in_prose(line: str) -> None:
    assert len(obscure_words(REPOSITORY / "x.py", line)) == 1


@pytest.mark.parametrize("line", ["unheard", "aforesaid", "outspoken"])
def test_a_word_that_contains_an_obscure_one_is_not_found(line: str) -> None:
    assert obscure_words(REPOSITORY / "x.py", line) == []
