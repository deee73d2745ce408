"""Every command and code block of README.md and the other documents does what the document says.

``DOCS_IN_FULL=1`` runs the blocks without the replacements that shorten them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, groups_of_blocks
from tests.docs.running import LIMIT_S, run_group

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *(path for folder in ("deploy", "docs", "workers") for path in sorted((REPOSITORY / folder).rglob("*.md"))),
]
IN_FULL = os.environ.get("DOCS_IN_FULL") == "1"
FULL_LIMIT_S = 1800.0


def all_groups() -> list[list[Block]]:
    return [
        group
        for path in DOCUMENTS
        for group in groups_of_blocks(blocks(path.read_text("utf-8"), name=str(path.relative_to(REPOSITORY))))
    ]


@pytest.mark.timeout(2 * (FULL_LIMIT_S if IN_FULL else LIMIT_S))
@pytest.mark.parametrize("group", all_groups(), ids=lambda group: "+".join(block.place for block in group))
def test_a_block_does_what_the_document_says(group: list[Block], tmp_path: Path) -> None:
    if (reason := group[0].settings.skipped) is not None:
        pytest.skip(f"{group[0].place}: {reason}")
    ci = (REPOSITORY / ".ci" / "run").read_text("utf-8")
    if IN_FULL:
        run_group(group, tmp_path, ci=ci, limit_s=FULL_LIMIT_S)
    else:
        run_group([block.shortened() for block in group], tmp_path, ci=ci)


def test_the_readme_is_among_the_documents() -> None:
    assert REPOSITORY / "README.md" in DOCUMENTS
