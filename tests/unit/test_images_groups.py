"""Groups of pictures from CSV files and from patterns of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpbandster_lite.workers.images.groups import groups_of_pictures, numbered
from hpbandster_lite.workers.images.image_data import ImageDataError

PATHS = ("ill/p1_a.png", "ill/p1_b.png", "well/p2_a.png", "well/p10_a.png")


def of(folder: Path, group: str, paths: tuple[str, ...] = PATHS) -> list[str]:
    found = groups_of_pictures(folder, paths, group)
    return [found.names[number] for number in found.numbers]


@pytest.mark.parametrize(
    ("names", "delimiter"),
    [
        (PATHS, ","),
        (tuple(f"./{path}" for path in PATHS), ";"),
        (tuple(Path(path).name for path in PATHS), "\t"),
        (tuple(Path(path).stem for path in PATHS), ","),
        (tuple(path.replace("/", "\\") for path in PATHS), ","),
    ],
    ids=["paths", "dots", "names", "stems", "backslashes"],
)
def test_a_column_names_the_group_of_each_picture(names: tuple[str, ...], delimiter: str, tmp_path: Path) -> None:
    rows = [("age", "picture", "patient"), ("3", "no picture of ours", "anna")]
    rows += [("4", name, patient) for name, patient in zip(names, ("anna", "anna", "ben", "eve"), strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8-sig")
    assert of(tmp_path, "patient") == ["anna", "anna", "ben", "eve"]


def test_the_tables_beside_the_class_folders_are_read_together(tmp_path: Path) -> None:
    for part, lines in (("train", "file,patient\nill/p1_a.png,7\nill/p1_b.png,7"),
                        ("test", "patient,file\n8,p2_a.png\n9,p10_a.png")):  # fmt: skip
        (tmp_path / part).mkdir()
        (tmp_path / part / "list.csv").write_text(lines)
    assert of(tmp_path, "patient") == ["7", "7", "8", "9"]


@pytest.mark.parametrize("group", [r"(p\d+)_", r"/(?P<patient>p\d+)", r"p\d+", r"(p\d+)_.\.png$"])
def test_a_pattern_of_the_path_gives_the_group(group: str, tmp_path: Path) -> None:
    assert of(tmp_path, group) == ["p1", "p1", "p2", "p10"]


def test_a_folder_may_be_the_group(tmp_path: Path) -> None:
    assert of(tmp_path, r"^[^/]+/([^/]+)/", ("ill/anna/1.png", "ill/anna/2.png", "well/ben/1.png")) == [
        "anna", "anna", "ben",
    ]  # fmt: skip


def test_numbers_follow_the_names() -> None:
    found = numbered(["b", "a", "b"])
    assert (found.numbers.tolist(), found.names) == ([1, 0, 1], ("a", "b"))
    assert found.of(slice(0, 2)).numbers.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("group", "table", "words"),
    [
        ("patient", None, r"no CSV file in .* has this column \(there is none\); give a column, or a pattern"),
        ("patient", "file,person\n", r"no CSV file in .* has this column \(they have 'file', 'person'\)"),
        ("(p", None, r"--group \(p is no regular expression: missing \)"),
        (r"(p1\d?)_", None, r"1 of 4 pictures in .* have no group \(well/p2_a.png\); name the group of each"),
        ("p", "f,p\np1_a,1\np1_b,1\np2_a,\n", r"2 of 4 pictures .* have no group \(well/p2_a.png, well/p10_a.png\)"),
        ("p", "f,p\nx,1\n", r"no column of .*table.csv has the names of the pictures, such as 'ill/p1_a.png'"),
        ("p", "f,p\np1_a,1\np1_a,2\n", r"ill/p1_a.png has two groups, '1' and '2'; correct .*table.csv"),
        ("p", "f,p\np1_a,1,2\n", r"table.csv, line 2: 3 values for 2 columns; correct it"),
    ],
    ids=["none", "other columns", "no pattern", "no match", "empty", "no names", "two groups", "ragged"],
)
def test_groups_that_are_not_there_are_refused(group: str, table: str | None, words: str, tmp_path: Path) -> None:
    if table is not None:
        (tmp_path / "table.csv").write_text(table)
    with pytest.raises(ImageDataError, match=words):
        of(tmp_path, group)


def test_a_name_of_two_pictures_is_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,patient\n1.png,anna\n")
    with pytest.raises(ImageDataError, match=r"'1.png' names 2 pictures \(ill/1.png, well/1.png\); write the folder"):
        of(tmp_path, "patient", ("ill/1.png", "well/1.png"))


def test_other_tables_and_other_encodings_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_bytes(b"a,b\n1,2,3\n\xff\xfe")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "table.csv").write_bytes(b"file,patient\n" + "\n".join(
        f"{path},Zoë" for path in PATHS).encode("latin-1"))  # fmt: skip
    assert len(set(of(tmp_path, "patient"))) == 1
    assert of(tmp_path, r"(p\d+)_")[0] == "p1"
