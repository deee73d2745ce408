"""What was found in a folder of pictures: the counts, what is refused, what is converted, what is left out.

Law of this file: everything is found together, before anything is trained, and nothing is converted or left out without
words. With ``refuse``, whatever loses something or cannot be read ends the start; ``convert`` converts what has a
documented conversion and refuses the rest; ``skip`` also leaves out the rest. ``auto`` is what a search has that began
before there was a choice: what it used and passed over then does not end it now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.picture import DICOM_MAGIC, DICOM_PLACE, LOSSES, TRAITS, Trait
from hpbandster_lite.workers.images.picture_look import Looked
from hpbandster_lite.workers.images.read_how import ReadHow

MOST_NAMED = 10
"""Files of one kind, or classes, that a message names; see :attr:`Findings.names` for all."""
MOST_SIZES = 3
NOTED_SQUEEZE = 1.05
FULL_RANGE = 32_768
"""Deep pictures whose values are all lower fill less than half of the range."""
DICOM = "DICOM"
DICOM_SUFFIXES = frozenset({".dcm", ".dic", ".dicom", ".ima"})
DICOM_REMEDY = (
    "convert them to PNG, for example with pydicom: choose the window of values that matters, scale it to 0 ... 255 "
    "and save it with 8 bits"
)
UNREAD_SUFFIXES = frozenset(
    {
        ".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".mha",
        ".mhd", ".nef", ".nii", ".nrrd", ".npy", ".psd", ".raw", ".svg", ".svs", ".tga",
    }
)  # fmt: skip
"""Pictures of formats that are not read."""
CONVERTED: Mapping[Trait, str] = {
    "deep": "scaled from 0 ... 65,535 to 0 ... 255",
    "alpha": "put on white",
    "frames": "of which the first one is used",
}


class Sample(NamedTuple):
    """A file, relative to its folder, and the name of its class."""

    name: str
    class_name: str


class LookedSample(NamedTuple):
    """A picture that was looked at, and the name of its class."""

    looked: Looked
    class_name: str


class Kept(NamedTuple):
    """The pictures that are used; ``test`` is None if the test set is a share of ``train``."""

    train: list[LookedSample]
    test: list[LookedSample] | None


class Findings(NamedTuple):
    """What was found.

    Attributes
    ----------
    source
        The folder.
    notes
        Sentences about what is used, converted or left out.
    refusals
        Sentences about what has to be decided; empty if the pictures can be used.
    names
        Every file that a note or a refusal counts, by the first words of the sentence.
    kept
        The pictures that are used.
    list_file
        A file with all names, if a sentence has not all of them. Default: ``None``.
    """

    source: str
    notes: list[str]
    refusals: list[str]
    names: dict[str, list[str]]
    kept: Kept
    list_file: Path | None = None

    @property
    def names_are_cut(self) -> bool:
        """Whether some sentence does not have all names."""
        return any(len(names) > MOST_NAMED for names in self.names.values())

    @property
    def name_list(self) -> str:
        """All names, for a file."""
        return "".join(f"{what}:\n" + "".join(f"  {name}\n" for name in names) for what, names in self.names.items())

    @property
    def all_notes(self) -> list[str]:
        """The notes, and where all names are."""
        return self.notes if self.list_file is None else [*self.notes, f"all names are in {self.list_file}"]


def refuse(findings: Findings) -> None:
    """Raise if something has to be decided.

    Raises
    ------
    ImageDataError
        With everything that was found.
    """
    if findings.refusals:
        raise ImageDataError(refusal_text(findings))


def refusal_text(findings: Findings) -> str:
    """All refusals, then all notes, each on a line."""
    head = f"{findings.source}: the pictures cannot be used as they are:"
    lines = [head, *findings.refusals, *(note.removeprefix(f"{findings.source}: ") for note in findings.all_notes)]
    return "\n- ".join(lines)


def findings_in(
    folder: Path,
    train: Sequence[LookedSample],
    test: Sequence[LookedSample] | None,
    others: Sequence[str],
    how: ReadHow,
) -> Findings:
    """What was found in pictures that were looked at.

    Parameters
    ----------
    folder
        The folder.
    train, test
        The pictures; ``test`` is None if a share of ``train`` becomes the test set.
    others
        Files of other kinds, relative to the folder.
    how
        What to do with unusual pictures, and the size.
    """
    found = _Finder(how)
    readable = {id(sample) for sample in [*train, *(test or [])] if not sample.looked.seen.fault}
    found.unreadable([sample for sample in [*train, *(test or [])] if sample.looked.seen.fault])
    found.other_files(folder, others)
    good = [sample for sample in train if id(sample) in readable]
    tested = None if test is None else [sample for sample in test if id(sample) in readable]
    dropped = found.copies(good, tested)
    kept = Kept(
        [sample for sample in good if id(sample) not in dropped],
        None if tested is None else [sample for sample in tested if id(sample) not in dropped],
    )
    every = [*kept.train, *(kept.test or [])]
    for trait in TRAITS:
        found.trait(trait, [sample for sample in every if trait in sample.looked.seen.traits])
    found.empty_classes({sample.class_name for sample in [*train, *(test or [])]}, kept)
    found.sizes(every)
    return Findings(str(folder), [*_summary(str(folder), kept, how), *found.notes], found.refusals, found.names, kept)


class _Finder:
    """Collects sentences about kinds of files."""

    def __init__(self, how: ReadHow) -> None:
        self.how = how
        self.notes: list[str] = []
        self.refusals: list[str] = []
        self.names: dict[str, list[str]] = {}

    def unreadable(self, samples: Sequence[LookedSample]) -> None:
        about = [f"{sample.looked.name} ({sample.looked.seen.fault})" for sample in samples]
        self._cannot_be_converted(about, "files that cannot be read", "repair or remove them")

    def other_files(self, folder: Path, others: Sequence[str]) -> None:
        by_kind: dict[str, list[str]] = defaultdict(list)
        for name in others:
            by_kind[_kind_of(folder, name)].append(name)
        self._cannot_be_converted(by_kind.pop(DICOM, []), "DICOM files", DICOM_REMEDY, before="left out")
        unread = [name for kind in sorted(by_kind) if kind in UNREAD_SUFFIXES for name in by_kind.pop(kind)]
        what = "pictures of formats that are not read"
        self._cannot_be_converted(unread, what, "save them as PNG or JPEG", before="left out")
        if by_kind:
            kinds = ", ".join(f"{kind or 'no suffix'} ({len(names):,})" for kind, names in sorted(by_kind.items()))
            self.notes.append(f"files that are no pictures: {kinds}")

    def copies(self, train: Sequence[LookedSample], test: Sequence[LookedSample] | None) -> set[int]:
        """Exact copies that would make results wrong; returns those that ``skip`` leaves out."""
        tested = {id(sample) for sample in test or []}
        by_content: dict[str, list[LookedSample]] = defaultdict(list)
        for sample in [*train, *(test or [])]:
            by_content[sample.looked.seen.digest].append(sample)
        several, crossing, repeated = [], [], []
        dropped: set[int] = set()
        for same in (each for each in by_content.values() if len(each) > 1):
            in_train = [sample for sample in same if id(sample) not in tested]
            if len({sample.class_name for sample in same}) > 1:
                several.append(_equal(same))
                dropped |= {id(sample) for sample in same}
            elif in_train and len(in_train) < len(same):
                crossing.append(_equal(same))
                dropped |= {id(sample) for sample in in_train}
            elif in_train:
                repeated.append(_equal(same))
                dropped |= {id(sample) for sample in in_train[1:]}
        remedies = (
            (several, "pictures with copies in several classes", "keep each in one class", "leaves all of them out"),
            (crossing, "pictures both for training and for test", "keep each on one side", "keeps them for test"),
            (repeated, "pictures with copies, which a split may put on two sides", "keep one", "keeps one of each"),
        )
        for pictures, what, remedy, left_out in remedies:
            self._cannot_be_converted(pictures, what, remedy, left_out, before="used")
        return dropped if self.how.unusual == "skip" else set()

    def trait(self, trait: Trait, samples: Sequence[LookedSample]) -> None:
        if not samples:
            return
        what, remedy = LOSSES[trait]
        subject = f"pictures with {what} ({len(samples):,})"
        names = self._named(subject, [sample.looked.name for sample in samples])
        if self.how.unusual == "refuse":
            self.refusals.append(f"{subject}: {names}; {remedy}")
            return
        self.notes.append(f"{subject}, {CONVERTED[trait]}: {names}")
        highest = max(sample.looked.seen.highest for sample in samples)
        if trait == "deep" and highest < FULL_RANGE:
            self.notes.append(
                f"the largest value of the pictures with more than 8 bits is {highest:,}, so only {highest // 257 + 1} "
                "of 256 values remain; choose the range that matters, scale it to 0 ... 255 and save it with 8 bits"
            )

    def empty_classes(self, class_names: Iterable[str], kept: Kept) -> None:
        left = {sample.class_name for sample in kept.train}
        if empty := sorted(set(class_names) - left):
            self.refusals.append(
                f"no picture for training is left of class {', '.join(empty[:MOST_NAMED])}; add pictures or remove the "
                "folder"
            )

    def sizes(self, samples: Sequence[LookedSample]) -> None:
        sizes = _sizes(samples)
        if self.how.size is None and len(sizes) > 1:
            height, width = sizes.most_common(1)[0][0]
            self.refusals.append(
                f"the pictures have {len(sizes):,} sizes: {_sizes_text(sizes)}; resize them to the same size, for "
                f"example with --image-size {min(height, width)}"
            )

    def _cannot_be_converted(
        self, names: Sequence[str], what: str, remedy: str, done: str = "leaves them out", *, before: str = ""
    ) -> None:
        """``before`` is what happened with them before there was a choice; empty if they ended the search."""
        if not names:
            return
        subject = f"{what} ({len(names):,})"
        listed = self._named(subject, names)
        if self.how.unusual == "skip":
            self.notes.append(f"{subject}; --unusual skip {done}: {listed}")
        elif self.how.unusual == "auto" and before:
            self.notes.append(f"{subject}; {before}, as when this search began: {listed}")
        else:
            self.refusals.append(f"{subject}: {listed}; {remedy}, or give --unusual skip, which {done}")

    def _named(self, subject: str, names: Sequence[str]) -> str:
        self.names[subject] = list(names)
        more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
        return ", ".join(names[:MOST_NAMED]) + more


# --------------------------------------------------------------------------------------------------------------- words


def _summary(source: str, kept: Kept, how: ReadHow) -> list[str]:
    every = [*kept.train, *(kept.test or [])]
    if not every:
        return []
    parts = ""
    if kept.test is not None:
        parts = f", {len(kept.train):,} for training and validation, {len(kept.test):,} for test"
    classes = Counter(sample.class_name for sample in every)
    named = ", ".join(f"{name} {n:,}" for name, n in sorted(classes.items())[:MOST_NAMED])
    more = f", and {len(classes) - MOST_NAMED:,} more classes" if len(classes) > MOST_NAMED else ""
    modes = Counter(_mode(sample) for sample in every)
    shown = ", ".join(f"{mode} ({n:,})" for mode, n in modes.most_common())
    sizes = _sizes(every)
    notes = [
        f"{source}: {_counted(len(every), 'picture')}{parts}: {named}{more}",
        f"sizes: {_sizes_text(sizes)}; modes: {shown}",
    ]
    return [*notes, *_squeezed(sizes, how)]


def _squeezed(sizes: Counter[tuple[int, int]], how: ReadHow) -> list[str]:
    if how.size is None or how.aspect != "squeeze":
        return []
    height, width = how.size
    factors = [w * height / (h * width) for h, w in sizes]
    most = max(max(factor, 1 / factor) for factor in factors)
    if most < NOTED_SQUEEZE:
        return []
    return [
        f"pictures of other shapes are squeezed to {height}x{width}, one side by up to {most:.2f} times more than the "
        "other; --aspect crop or pad keeps their aspect"
    ]


def _mode(sample: LookedSample) -> str:
    seen = sample.looked.seen
    return f"{seen.mode}, grey" if seen.channels == 1 and seen.mode in ("P", "PA", "RGBA") else seen.mode


def _sizes(samples: Sequence[LookedSample]) -> Counter[tuple[int, int]]:
    return Counter((sample.looked.seen.height, sample.looked.seen.width) for sample in samples)


def _sizes_text(sizes: Counter[tuple[int, int]]) -> str:
    counts = ", ".join(f"{height}x{width} ({n:,})" for (height, width), n in sizes.most_common(MOST_SIZES))
    return counts + (", ..." if len(sizes) > MOST_SIZES else "")


def _equal(same: Sequence[LookedSample]) -> str:
    return " = ".join(sample.looked.name for sample in same[:MOST_NAMED])


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _kind_of(folder: Path, name: str) -> str:
    """:data:`DICOM`, or the suffix of a file; DICOM often has no suffix."""
    lower = name.lower().removesuffix(".gz")
    suffix = Path(lower).suffix
    if suffix in DICOM_SUFFIXES or (suffix not in UNREAD_SUFFIXES and _has_dicom_magic(folder / name)):
        return DICOM
    return suffix if suffix in UNREAD_SUFFIXES else Path(name).suffix.lower()


def _has_dicom_magic(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            stream.seek(DICOM_PLACE)
            return stream.read(len(DICOM_MAGIC)) == DICOM_MAGIC
    except OSError:
        return False
