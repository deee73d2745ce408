"""The hash of a file's text, without the parts that cannot change a loss.

Law of this file: two texts of a Python file that differ only in comments, blank lines, line ends or the block of
``if __name__ == "__main__":`` have the same hash, on every host and under every supported version of Python.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import threading
import tokenize
from collections.abc import Iterator
from pathlib import Path

LARGE_BYTES = 10_000_000
"""Only the size of larger files is compared, except Python files: hashing them would delay each start."""
ABSENT = "absent"
"""Replaces the hash of a file that does not exist."""
HASH_CHARACTERS = 32
TRIES_TO_PARSE = 20
_parsing = threading.Lock()


def hash_of_file(path: Path) -> str:
    """The hash of the counted part of a file, its size if it is large, ``absent`` if it cannot be read."""
    try:
        if path.suffix == ".py":
            return hash_of_bytes(counted_text(path.read_bytes()))
        size = path.stat().st_size
        return f"{size} bytes" if size > LARGE_BYTES else hash_of_bytes(path.read_bytes())
    except OSError:
        return ABSENT


def hash_of_bytes(content: bytes) -> str:
    """The first characters of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:HASH_CHARACTERS]


def counted_text(content: bytes) -> bytes:
    """The counted part of a Python file; the whole text, with uniform line ends, if it is not valid Python."""
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
        return "\n".join(_counted_lines(text)).encode("utf-8", "surrogatepass")
    except (SyntaxError, ValueError, LookupError, tokenize.TokenError, RecursionError):
        return content


def parsed(text: str | bytes) -> ast.Module:
    """The syntax tree of a Python text, whichever threads of this process parse at the same time.

    CPython 3.11 counts the depth of all trees under construction in one variable: where two threads parse, each may get
    a SystemError. An agent without a trainer process shares its process with the threads of the user.
    """
    for _ in range(TRIES_TO_PARSE):
        with _parsing, contextlib.suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def _counted_lines(text: str) -> Iterator[str]:
    lines = text.split("\n")
    left_out = _lines_of_main_block(parsed(text))
    in_string: set[int] = set()
    """Lines that end inside a string, where spaces and ``#`` are part of a value."""
    strings: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (first, column), (last, _) = token.start, token.end
        name = tokenize.tok_name[token.type]
        if token.type == tokenize.COMMENT:
            lines[first - 1] = lines[first - 1][:column]
        elif token.type == tokenize.STRING:
            in_string.update(range(first, last))
        elif name.endswith("STRING_START"):
            strings.append(first)
        elif name.endswith("STRING_END") and strings:
            in_string.update(range(strings.pop(), last))
    for number, line in enumerate(lines, 1):
        if number in left_out:
            continue
        if number in in_string:
            yield line
        elif line.strip() or number - 1 in in_string:
            yield line.rstrip()


def _lines_of_main_block(tree: ast.Module) -> set[int]:
    left_out: set[int] = set()
    for node in tree.body:
        if isinstance(node, ast.If) and is_main_block(node):
            left_out.update(range(node.lineno, (node.body[-1].end_lineno or node.lineno) + 1))
    return left_out


def is_main_block(node: ast.If) -> bool:
    """Whether a statement is ``if __name__ == "__main__":``."""
    match node.test:
        case ast.Compare(left=one, ops=[ast.Eq()], comparators=[other]):
            return {_constant(one), _constant(other)} == {"__name__ of the module", "__main__"}
        case _:
            return False


def _constant(node: ast.expr) -> object:
    match node:
        case ast.Name(id="__name__"):
            return "__name__ of the module"
        case ast.Constant(value=str(value)):
            return value
        case _:
            return None
