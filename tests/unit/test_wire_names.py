"""Names that cross a process or are stored in a journal are fixed: this test detects a change.

``tests/recorded/wire_names.json`` has the tag and the fields of every record, the values of every enum in them, and the
items of every named tuple. If this test fails after an unintended change, undo the renaming, or keep the old name with
``fields_of``. If you intend the change, follow docs/decisions/0011-migrations.md (a new field has a default, or the
schema or protocol number rises) and regenerate the file: ``python -m tests.unit.test_wire_names``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hpbandster_lite import records, wire

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests" / "recorded" / "wire_names.json"


def import_all_records() -> None:
    for path in sorted((REPOSITORY / "hpbandster_lite").rglob("*.py")):
        if "wire.register(" in path.read_text("utf-8") and path.parent.name != "wire":
            importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))


def types_in(hint: Any) -> Iterator[type]:
    """Enums and named tuples that an annotation names, at any depth."""
    for inner in get_args(hint):
        yield from types_in(inner)
    if isinstance(hint, type) and issubclass(hint, Enum):
        yield hint
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from types_in(inner)


def names_now() -> dict[str, Any]:
    import_all_records()
    # Records of tests are also registered if their files were imported.
    ours = {tag: cls for tag, cls in wire.classes_by_tag.items() if cls.__module__.startswith("hpbandster_lite.")}
    named: dict[str, Any] = {"records": {}, "enums": {}, "named tuples": {}}
    for tag, cls in ours.items():
        names = wire.field_names(cls)
        required = {each.name for each in fields(cls) if each.default is each.default_factory is MISSING}
        named["records"][tag] = {
            name: "required" if attribute in required else "optional" for attribute, name in names.items()
        }
        for found in (each for hint in get_type_hints(cls).values() for each in types_in(hint)):
            if issubclass(found, Enum):
                named["enums"][found.__name__] = sorted(each.value for each in found)
            else:
                # A named tuple.
                named["named tuples"][found.__name__] = list(found._fields)  # type: ignore[attr-defined]
    return named


def test_tags_fields_and_values_are_as_recorded() -> None:
    assert names_now() == json.loads(RECORDED.read_text("utf-8"))


def test_every_record_has_a_fixed_tag_in_the_table() -> None:
    dataclasses = {cls for cls in vars(records).values() if isinstance(cls, type) and is_dataclass(cls)}
    assert set(wire.TAGS.values()) == dataclasses


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(names_now(), indent=1, sort_keys=True) + "\n", "utf-8")
