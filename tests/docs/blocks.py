"""Parses the fenced blocks of a markdown text, and the comments above a block that control how a test runs it.

Law of this file: pure functions; nothing runs here. A ``bash``, ``console`` or ``python`` block runs in its own
directory, unless comments in the lines above it say otherwise::

    <!-- run: no, needs a cluster -->        the block does not run; the test is skipped with this reason
    <!-- run: replace "A" with "B" -->       runs with B instead of A, to be shorter; A must occur; may be repeated
    <!-- run: exits with 2 -->               the exit code must be this one instead of 0
    <!-- name: NAME -->                      name of the block, for later blocks
    <!-- run: after NAME -->                 runs after the block NAME and its followers, in the same directory
    <!-- file: NAME -->                      the block is first written to this file; a python block then runs from it

A ``text`` block directly after it, with only blank lines between, is the expected standard output. A ``console`` block
holds commands after ``$ `` (continued after ``> ``), each followed by its output. In both, ``...`` matches any text in
a line, and any lines if it is the only text of a line. Unknown languages are refused, so that no block escapes the
test as ``sh``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

RUNNABLE = {"bash", "console", "python"}
DATA = {"css", "diff", "dockerfile", "html", "ini", "json", "mermaid", "text", "toml", "yaml"}

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[^`\s]*)[^`]*$")
_COMMENT = re.compile(r"^\s*<!--\s*(?P<body>.*?)\s*-->\s*$")
_STRING = r'"(?:[^"\\]|\\.)*"'
_REPLACE = re.compile(rf"replace ({_STRING}) with ({_STRING})")


class BadDocument(ValueError):
    """A document with an unclosed block, an unknown language or an unknown comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run a block, from the comments above it."""

    skipped: str | None = None
    replacements: tuple[tuple[str, str], ...] = ()
    exit_code: int = 0
    name: str | None = None
    after: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; ``expected`` is its output, or None if the document does not show it."""

    place: str
    language: str
    text: str
    settings: Settings = field(default_factory=Settings)
    expected: str | None = None

    def shortened(self) -> Block:
        """The block with its replacements made."""
        text = self.text
        for old, new in self.settings.replacements:
            if old not in text:
                raise BadDocument(f"{self.place}: {old!r} is to be replaced but does not occur")
            text = text.replace(old, new)
        return replace(self, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of a console block and its output."""

    script: str
    expected: str


def blocks(text: str, *, name: str) -> list[Block]:
    """Blocks of one document in order; ``name`` names the document in error messages."""
    found: list[Block] = []
    settings, settings_at, follows = Settings(), "", False
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        place = f"{name}:{number}"
        if fence := _FENCE.match(line):
            block = Block(place=place, language=fence["language"], text=_body(fence, lines, place), settings=settings)
            if block.language == "text" and follows and settings == Settings():
                found[-1] = replace(found[-1], expected=block.text)
            else:
                found.append(_checked(block))
            settings, follows = Settings(), found[-1].language in ("bash", "python") and found[-1].expected is None
        elif comment := _COMMENT.match(line):
            settings, settings_at = _with_comment(settings, comment["body"], place), place
        elif line.strip():
            if settings != Settings():
                raise BadDocument(f"{settings_at}: no block follows this comment; move it to the line above one")
            follows = False
    if settings != Settings():
        raise BadDocument(f"{settings_at}: no block follows this comment; move it to the line above one")
    return found


def groups_of_blocks(found: Sequence[Block]) -> list[list[Block]]:
    """Groups of blocks that run together: a named block with its followers, and every other block alone.

    Data blocks that are not written to a file are omitted.
    """
    groups: list[list[Block]] = []
    of_name: dict[str, list[Block]] = {}
    for block in found:
        if block.language in DATA and block.settings.file is None:
            continue
        if (after := block.settings.after) is None:
            groups.append([block])
        elif after in of_name:
            of_name[after].append(block)
        else:
            raise BadDocument(f"{block.place}: no block above is named {after!r}; known are {sorted(of_name)}")
        if (name := block.settings.name) is not None:
            if name in of_name:
                raise BadDocument(f"{block.place}: another block is named {name!r} already")
            of_name[name] = groups[-1] if after is None else of_name[after]
    return groups


def commands(block: Block) -> list[Command]:
    """Commands of a console block with the output that the document shows."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif not found:
            raise BadDocument(f"{block.place}: a console block must start with a command after '$ ', got {line!r}")
        elif line.startswith("> ") and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [Command(script="\n".join(script), expected="\n".join(output)) for script, output in found]


def matches(expected: str, printed: str) -> bool:
    """Whether the output matches the document, in which ``...`` matches anything."""
    pattern = ""
    for line in _tidy(expected):
        pieces = [re.escape(piece) for piece in line.split("...")]
        pattern += "(?:.*\n)*?" if line.strip() == "..." else ".*?".join(pieces) + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _tidy(printed))) is not None


def _tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()] if text.strip() else []


def _body(fence: re.Match[str], lines: Iterator[tuple[int, str]], place: str) -> str:
    """Text up to the closing fence, without the indentation of the opening fence."""
    closing = re.compile(rf" *{fence['fence'][0]}{{{len(fence['fence'])},}} *$")
    text: list[str] = []
    for _, line in lines:
        if closing.match(line):
            return "".join(f"{line}\n" for line in text)
        text.append(line[min(len(fence["indent"]), len(line) - len(line.lstrip(" "))) :])
    raise BadDocument(f"{place}: this block is not closed")


def _checked(block: Block) -> Block:
    settings = block.settings
    if block.language not in RUNNABLE | DATA:
        known = ", ".join(sorted(RUNNABLE | DATA))
        raise BadDocument(f"{block.place}: unknown language {block.language or 'nothing'!r}; use one of {known}")
    if settings.skipped is not None and settings != Settings(skipped=settings.skipped):
        raise BadDocument(f"{block.place}: a block that does not run takes no other comment")
    if block.language in DATA and settings != Settings(name=settings.name, after=settings.after, file=settings.file):
        raise BadDocument(
            f"{block.place}: a block of {block.language} does not run; it takes only 'file', 'name' and 'after'"
        )
    return block


def _with_comment(settings: Settings, body: str, place: str) -> Settings:
    """The settings with those of one more comment; an ordinary comment changes nothing."""
    kind, colon, value = body.partition(":")
    if not colon or kind not in ("run", "name", "file"):
        return settings
    value = value.strip()
    if kind in ("name", "file") and re.fullmatch(r"[\w.-]+", value):
        return replace(settings, name=value) if kind == "name" else replace(settings, file=value)
    if kind == "run" and (reason := re.fullmatch(r"no, *(\S.*)", value)):
        return replace(settings, skipped=reason[1])
    if kind == "run" and (after := re.fullmatch(r"after ([\w.-]+)", value)):
        return replace(settings, after=after[1])
    if kind == "run" and (code := re.fullmatch(r"exits with (\d+)", value)):
        return replace(settings, exit_code=int(code[1]))
    if kind == "run" and (both := _REPLACE.fullmatch(value)):
        pair = (json.loads(both[1]), json.loads(both[2]))
        return replace(settings, replacements=(*settings.replacements, pair))
    raise BadDocument(
        f"{place}: <!-- {body} --> is not a known comment; use 'run: no, REASON', 'run: replace \"A\" with \"B\"', "
        "'run: exits with N', 'run: after NAME', 'name: NAME' or 'file: NAME'"
    )
