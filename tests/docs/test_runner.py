"""The runner of documents, on small examples: it must fail if a document is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.blocks import BadDocument, Block, Settings, blocks, commands, groups_of_blocks, matches
from tests.docs.running import run_group
from tests.docs.setting_up import without_setting_up

CI = """#!/usr/bin/env bash
.venv/bin/pip install -c constraints.txt -e ".[dev]"
step lint .venv/bin/ruff check .
step tests .venv/bin/python -m pytest
"""


def parse(text: str) -> list[Block]:
    return blocks(text, name="a.md")


def run(text: str, directory: Path, *, limit_s: float = 30.0) -> None:
    """Run a small document as continuous integration does, each group in a separate directory."""
    for number, group in enumerate(groups_of_blocks(parse(text))):
        inside = directory / str(number)
        inside.mkdir()
        run_group([block.shortened() for block in group], inside, ci=CI, limit_s=limit_s)


# --------------------------------------------------------------------------------------------------- blocks


def test_blocks_are_found_with_their_lines_and_languages() -> None:
    found = parse("# Title\n\n```bash\nls\n```\n\nWords.\n\n~~~python\nx = '```'\n~~~\n")
    assert [(block.place, block.language, block.text) for block in found] == [
        ("a.md:3", "bash", "ls\n"),
        ("a.md:9", "python", "x = '```'\n"),
    ]


def test_a_block_in_a_list_loses_the_indentation_of_its_fence_only() -> None:
    (block,) = parse("1. First:\n\n   ```python\n   if True:\n       x = 1\n\n   ```\n")
    assert block.text == "if True:\n    x = 1\n\n"


def test_a_longer_fence_shows_a_shorter_one() -> None:
    (block,) = parse("````text\n```bash\nrm -rf /\n```\n````\n")
    assert block.text == "```bash\nrm -rf /\n```\n"


def test_a_text_block_right_below_is_what_the_block_prints() -> None:
    found = parse("```python\nprint(1)\n```\n\n```text\n1\n```\n\n```text\na picture\n```\n")
    assert [(block.language, block.expected) for block in found] == [("python", "1\n"), ("text", None)]


def test_a_text_block_below_words_is_no_output() -> None:
    assert parse("```bash\nls\n```\nThe way of it:\n```text\na -> b\n```\n")[0].expected is None


def test_the_comments_above_a_block_are_its_settings() -> None:
    text = (
        '<!-- an ordinary comment -->\n<!-- name: main -->\n\n<!-- run: replace "\\"a\\"" with "" -->\n'
        '<!-- run: replace "b" with "b --brackets 1" -->\n<!-- run: exits with 2 -->\n```bash\n"a" b\n```\n'
    )
    (block,) = parse(text)
    assert block.settings == Settings(name="main", replacements=(('"a"', ""), ("b", "b --brackets 1")), exit_code=2)
    assert block.shortened().text == " b --brackets 1\n"


def test_a_comment_inside_a_block_settings_nothing() -> None:
    assert parse("```bash\n<!-- run: no, it is only shown -->\n```\n")[0].settings == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```\nls\n```\n", "unknown language 'nothing'"),
        ("```sh\nls\n```\n", "unknown language 'sh'; use one of bash"),
        ("```bash\nls\n", "not closed"),
        ("<!-- run: no -->\n```bash\nls\n```\n", "is not a known comment"),
        ("<!-- run: no,  -->\n```bash\nls\n```\n", "is not a known comment"),
        ("<!-- run: maybe -->\n```bash\nls\n```\n", "is not a known comment"),
        ("<!-- name: two words -->\n```bash\nls\n```\n", "is not a known comment"),
        ("<!-- file: ../up.py -->\n```python\n```\n", "is not a known comment"),
        ("<!-- name: a -->\nWords.\n```bash\nls\n```\n", "a.md:1: no block follows"),
        ("Words.\n\n<!-- name: a -->\n", "a.md:3: no block follows"),
        ("<!-- run: no, why -->\n<!-- name: a -->\n```bash\nls\n```\n", "takes no other comment"),
        ("<!-- run: exits with 2 -->\n```json\n{}\n```\n", "a block of json does not run"),
    ],
)
def test_a_wrong_document_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadDocument, match=message):
        parse(text)


def test_blocks_that_come_after_each_other_are_one_story() -> None:
    text = (
        "<!-- name: a -->\n```bash\n1\n```\n```bash\n2\n```\n<!-- run: after a -->\n<!-- name: b -->\n```bash\n3\n```\n"
        "<!-- run: after b -->\n```bash\n4\n```\n```text\nart\n```\n"
    )
    assert [[block.text.strip() for block in group] for group in groups_of_blocks(parse(text))] == [
        ["1", "3", "4"],
        ["2"],
    ]


def test_coming_after_an_unknown_block_and_a_name_used_twice_are_refused() -> None:
    with pytest.raises(BadDocument, match="no block above is named 'a'"):
        groups_of_blocks(parse("<!-- run: after a -->\n```bash\n```\n"))
    with pytest.raises(BadDocument, match="named 'a' already"):
        groups_of_blocks(parse(2 * "<!-- name: a -->\n```bash\nls\n```\n"))


def test_a_replacement_of_text_that_does_not_occur_is_refused() -> None:
    (block,) = parse('<!-- run: replace "--brackets 9" with "" -->\n```bash\nls\n```\n')
    with pytest.raises(BadDocument, match="'--brackets 9' is to be replaced but does not occur"):
        block.shortened()


def test_a_console_block_is_commands_with_what_each_shows() -> None:
    (block,) = parse("```console\n$ echo a \\\n>   b\na b\n> not a command\n$ true\n```\n")
    assert [(command.script, command.expected) for command in commands(block)] == [
        ("echo a \\\n  b", "a b\n> not a command"),
        ("true", ""),
    ]


def test_a_console_block_that_begins_with_output_is_refused() -> None:
    with pytest.raises(BadDocument, match="must start with a command"):
        commands(parse("```console\na b\n```\n")[0])


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a\n", "a\n"),
        ("a", "\na   \n"),
        ("loss ... at 9", "loss 0.25 at 9\n"),
        ("...", ""),
        ("...", "a\nb\n"),
        ("a\n...\nd", "a\nb\nc\nd\n"),
        ("a\n...\nd", "a\nd\n"),
        ("", ""),
        ("a.b (c)", "a.b (c)"),
    ],
)
def test_dots_stand_for_anything(expected: str, printed: str) -> None:
    assert matches(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a", "b"),
        ("a", "a\nb"),
        ("", "a"),
        ("loss ... at 9", "loss 0.25\n at 9"),
        ("a\n...\nd", "a\nb\n"),
        ("a.b", "axb"),
        ("...\na", "ba"),
    ],
)
def test_what_differs_does_not_match(expected: str, printed: str) -> None:
    assert not matches(expected, printed)


# ------------------------------------------------------------------------------------------------ setting up


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("python3 -m venv .venv\nls\n", "ls"),
        ('python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[torch]" && ls -l', "ls -l"),
        ('.venv/bin/pip install \\\n  -c constraints.txt -e ".[dev]"   # once', ""),
        ("git clone https://example.org/a.git\ncd a\nls && pwd", "ls && pwd"),
        (".venv/bin/ruff check .\n.venv/bin/python -m pytest", ""),
        ("cd a", "cd a"),
        ("for x in 1 2; do\n  true && echo $x\ndone", "for x in 1 2; do\n  true && echo $x\ndone"),
    ],
)
def test_lines_that_set_up_are_left_out(script: str, left: str) -> None:
    assert without_setting_up(script, ci=CI) == left


@pytest.mark.parametrize(
    "script",
    [
        'pip install -e ".[dev]"',
        "python -m pip install hpbandster_lite",
        ".venv/bin/pip install requests && ls",
        "python3 -m venv env",
    ],
)
def test_setting_up_otherwise_than_ci_is_refused(script: str) -> None:
    with pytest.raises(AssertionError, match=r"\.ci/run"):
        without_setting_up(script, ci=CI)


# --------------------------------------------------------------------------------------------------- running


def test_a_document_that_is_right_passes(tmp_path: Path) -> None:
    run(
        "<!-- file: squares.py -->\n<!-- name: squares -->\n```python\nfrom pathlib import Path\n"
        "for n in range(4):\n    print(n * n)\nPath('made').touch()\n```\n```text\n0\n...\n9\n```\n"
        "<!-- run: after squares -->\n```console\n$ ls *.py made\nmade\nsquares.py\n$ x=y\n$ echo $x >&2\ny\n```\n"
        '<!-- run: replace "100" with "1" -->\n```bash\ntest ! -e made\nfor n in $(seq 100); do echo $n; done\n```\n'
        "```text\n1\n```\n",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash\nfalse\ntrue\n```\n", "a.md:1: the block ended with 1"),
        ("```bash\nfalse | true\n```\n", "ended with 1"),
        ("```bash\necho $unknown_name\n```\n", "unbound variable"),
        ("```bash\necho yes\n```\n```text\nno\n```\n", "the document says\nno\n\n--- and the output is\nyes"),
        ("```console\n$ echo a\na\n$ echo b\nc\n```\n", "the document says\nc\n--- and the output is\nb"),
        ("```console\n$ echo a\n```\n", "and the output is\na"),
        ("```python\nraise SystemExit('no such problem')\n```\n", "no such problem"),
        ("<!-- run: exits with 2 -->\n```bash\ntrue\n```\n", "the block ended with 0"),
        ("```bash\npip install torch\n```\n", "not how .ci/run installs"),
    ],
)
def test_a_document_that_is_wrong_fails_and_shows_what_was_printed(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as failure:
        run(text, tmp_path)
    assert message in str(failure.value)


def test_an_exit_code_that_the_document_tells_is_no_failure(tmp_path: Path) -> None:
    run("<!-- run: exits with 2 -->\n```console\n$ echo refused >&2; exit 2\nrefused\n```\n", tmp_path)


def test_a_block_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"did not end within 0\.2 s\n--- printed\nbegan"):
        run("```bash\necho began; sleep 1000\n```\n", tmp_path, limit_s=0.2)


def test_a_process_that_a_block_leaves_is_killed_and_reported(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"left behind .*sleep 1000"):
        run("```bash\nsetsid sleep 1000 >/dev/null 2>&1 &\n```\n", tmp_path)


def test_the_commands_of_this_environment_come_first(tmp_path: Path) -> None:
    python = "import sys; print(sys.prefix)"
    run(f"```console\n$ python -c '{python}'\n{sys.prefix}\n$ ls .venv/bin/python\n.venv/bin/python\n```\n", tmp_path)


def test_a_block_does_not_see_this_process_s_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPBANDSTER_LITE_NAMESERVER", "127.0.0.1:1")
    run("```console\n$ echo ${HPBANDSTER_LITE_NAMESERVER-none}\nnone\n```\n", tmp_path)
