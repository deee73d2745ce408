"""Every command and code block of README.md and the other documents does what the document says.

``DOCS_IN_FULL=1`` runs what the comments shorten as it stands in the document.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, stories
from tests.docs.running import LIMIT_S, run_story

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *(path for folder in ("deploy", "docs", "workers") for path in sorted((REPOSITORY / folder).rglob("*.md"))),
]
IN_FULL = os.environ.get("DOCS_IN_FULL") == "1"
FULL_LIMIT_S = 1800.0


def all_stories() -> list[list[Block]]:
    return [
        story
        for path in DOCUMENTS
        for story in stories(blocks(path.read_text("utf-8"), name=str(path.relative_to(REPOSITORY))))
    ]


@pytest.mark.timeout(2 * (FULL_LIMIT_S if IN_FULL else LIMIT_S))
@pytest.mark.parametrize("story", all_stories(), ids=lambda story: "+".join(block.place for block in story))
def test_what_the_document_says_happens(story: list[Block], tmp_path: Path) -> None:
    if (reason := story[0].wishes.skipped) is not None:
        pytest.skip(f"{story[0].place}: {reason}")
    ci = (REPOSITORY / ".ci" / "run").read_text("utf-8")
    if IN_FULL:
        run_story(story, tmp_path, ci=ci, limit_s=FULL_LIMIT_S)
    else:
        run_story([block.shortened() for block in story], tmp_path, ci=ci)


def test_the_readme_is_among_the_documents() -> None:
    assert REPOSITORY / "README.md" in DOCUMENTS
