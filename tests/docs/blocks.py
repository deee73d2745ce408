"""The fenced blocks of a markdown text, and what the comments above them ask of the test that runs them.

Law of this file: text in, values out; nothing runs here. A ``bash``, ``console`` or ``python`` block is run, in a
directory of its own, unless comments on lines of their own above it say otherwise::

    <!-- run: no, needs a cluster -->        not run; the reason is shown as the reason of the skipped test
    <!-- run: replace "A" with "B" -->       run with B in place of A, which shortens it; A must occur; may be repeated
    <!-- run: exits with 2 -->               it must end with this exit code instead of 0
    <!-- name: NAME -->                      a name that a later block may come after
    <!-- run: after NAME -->                 run after the block NAME (and all that came after that), in its directory
    <!-- file: NAME -->                      written under this name first; a python block is then run from that file

A ``text`` block that follows with nothing but blank lines between is what the block prints on standard output. A
``console`` block holds commands behind ``$ `` (continued behind ``> ``) and below each what a terminal shows. In both,
``...`` stands for any text within a line, and on a line of its own for any lines. A word that a fence may not name is
refused, so that no command escapes by being called ``sh``.
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
    """A document whose blocks cannot be told apart or whose comments ask for something unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the comments above a block ask for."""

    skipped: str | None = None
    replacements: tuple[tuple[str, str], ...] = ()
    exit_code: int = 0
    name: str | None = None
    after: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; ``expected`` is what it prints, None where the document does not say."""

    place: str
    language: str
    text: str
    wishes: Wishes = field(default_factory=Wishes)
    expected: str | None = None

    def shortened(self) -> Block:
        """The block with the replacements made that its comments ask for."""
        text = self.text
        for old, new in self.wishes.replacements:
            if old not in text:
                raise BadDocument(f"{self.place}: {old!r} is to be replaced and does not occur")
            text = text.replace(old, new)
        return replace(self, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of a console block and what a terminal shows below it."""

    script: str
    expected: str


def blocks(text: str, *, name: str) -> list[Block]:
    """Blocks of one document in its order; ``name`` is how its places are called."""
    found: list[Block] = []
    wishes, wished_at, follows = Wishes(), "", False
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        place = f"{name}:{number}"
        if fence := _FENCE.match(line):
            block = Block(place=place, language=fence["language"], text=_body(fence, lines, place), wishes=wishes)
            if block.language == "text" and follows and wishes == Wishes():
                found[-1] = replace(found[-1], expected=block.text)
            else:
                found.append(_checked(block))
            wishes, follows = Wishes(), found[-1].language in ("bash", "python") and found[-1].expected is None
        elif comment := _COMMENT.match(line):
            wishes, wished_at = _and_wishes(wishes, comment["body"], place), place
        elif line.strip():
            if wishes != Wishes():
                raise BadDocument(f"{wished_at}: no block follows this comment; move it to the line above one")
            follows = False
    if wishes != Wishes():
        raise BadDocument(f"{wished_at}: no block follows this comment; move it to the line above one")
    return found


def stories(found: Sequence[Block]) -> list[list[Block]]:
    """Blocks that are run together: those that come after each other, and each other one by itself.

    Blocks of data that are to be written to no file are nobody's concern and left out.
    """
    told: list[list[Block]] = []
    of_name: dict[str, list[Block]] = {}
    for block in found:
        if block.language in DATA and block.wishes.file is None:
            continue
        if (after := block.wishes.after) is None:
            told.append([block])
        elif after in of_name:
            of_name[after].append(block)
        else:
            raise BadDocument(f"{block.place}: no block above is named {after!r}; known are {sorted(of_name)}")
        if (name := block.wishes.name) is not None:
            if name in of_name:
                raise BadDocument(f"{block.place}: another block is named {name!r} already")
            of_name[name] = told[-1] if after is None else of_name[after]
    return told


def commands(block: Block) -> list[Command]:
    """Commands of a console block with the output that the document shows below each."""
    told: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            told.append(([line[2:]], []))
        elif not told:
            raise BadDocument(f"{block.place}: a console block begins with a command behind '$ ', got {line!r}")
        elif line.startswith("> ") and not told[-1][1]:
            told[-1][0].append(line[2:])
        else:
            told[-1][1].append(line)
    return [Command(script="\n".join(script), expected="\n".join(output)) for script, output in told]


def matches(expected: str, printed: str) -> bool:
    """Whether a program printed what the document says, with ``...`` for what may be anything."""
    pattern = ""
    for line in _tidy(expected):
        pieces = [re.escape(piece) for piece in line.split("...")]
        pattern += "(?:.*\n)*?" if line.strip() == "..." else ".*?".join(pieces) + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _tidy(printed))) is not None


def _tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()] if text.strip() else []


def _body(fence: re.Match[str], lines: Iterator[tuple[int, str]], place: str) -> str:
    """Text up to the closing fence, without the indentation of the opening one."""
    closing = re.compile(rf" *{fence['fence'][0]}{{{len(fence['fence'])},}} *$")
    text: list[str] = []
    for _, line in lines:
        if closing.match(line):
            return "".join(f"{line}\n" for line in text)
        text.append(line[min(len(fence["indent"]), len(line) - len(line.lstrip(" "))) :])
    raise BadDocument(f"{place}: this block is never closed")


def _checked(block: Block) -> Block:
    wishes = block.wishes
    if block.language not in RUNNABLE | DATA:
        known = ", ".join(sorted(RUNNABLE | DATA))
        raise BadDocument(f"{block.place}: a block of {block.language or 'nothing'!r}; say one of {known}")
    if wishes.skipped is not None and wishes != Wishes(skipped=wishes.skipped):
        raise BadDocument(f"{block.place}: a block that is not run takes no other wish")
    if block.language in DATA and wishes != Wishes(name=wishes.name, after=wishes.after, file=wishes.file):
        raise BadDocument(f"{block.place}: a block of {block.language} is not run; it takes 'file', 'name' and 'after'")
    return block


def _and_wishes(wishes: Wishes, body: str, place: str) -> Wishes:
    """The wishes with those of one more comment; an ordinary comment wishes nothing."""
    kind, colon, wish = body.partition(":")
    if not colon or kind not in ("run", "name", "file"):
        return wishes
    wish = wish.strip()
    if kind in ("name", "file") and re.fullmatch(r"[\w.-]+", wish):
        return replace(wishes, name=wish) if kind == "name" else replace(wishes, file=wish)
    if kind == "run" and (reason := re.fullmatch(r"no, *(\S.*)", wish)):
        return replace(wishes, skipped=reason[1])
    if kind == "run" and (after := re.fullmatch(r"after ([\w.-]+)", wish)):
        return replace(wishes, after=after[1])
    if kind == "run" and (code := re.fullmatch(r"exits with (\d+)", wish)):
        return replace(wishes, exit_code=int(code[1]))
    if kind == "run" and (both := _REPLACE.fullmatch(wish)):
        pair = (json.loads(both[1]), json.loads(both[2]))
        return replace(wishes, replacements=(*wishes.replacements, pair))
    raise BadDocument(
        f"{place}: <!-- {body} --> asks for nothing known; say 'run: no, REASON', 'run: replace \"A\" with \"B\"', "
        "'run: exits with N', 'run: after NAME', 'name: NAME' or 'file: NAME'"
    )
