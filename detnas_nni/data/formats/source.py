"""What a format's reader gets: the folder, its annotation files and pictures, the note, the user's wishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from detnas_nni.data.formats.note import BACKGROUNDS, UNLABELLED, WRONG_FILES, Note
from detnas_nni.data.formats.pictures import Listing, Pictures
from detnas_nni.errors import DataError

Content = TypeVar("Content")


@dataclass(frozen=True)
class Wishes:
    """What the user may say where a format is ambiguous.

    Attributes:
        backgrounds: whether pictures without a label are images of background; if None, as is usual for the
            format.
        class_key: VIA: the attribute that holds the class.
        strict: whether an incorrect entry is an error.
    """

    backgrounds: bool | None = None
    class_key: str | None = None
    strict: bool = False


@dataclass(frozen=True)
class Source:
    """A data set in a format other than COCO.

    Attributes:
        root: the folder that contains everything.
        files: the annotation files, relative to it.
        listing: all of its files.
        pictures: those among them, or in the folder that the user names.
        note: collects what to report.
        wishes: the user's.
    """

    root: Path
    files: tuple[PurePosixPath, ...]
    listing: Listing
    pictures: Pictures
    note: Note = field(default_factory=Note)
    wishes: Wishes = field(default_factory=Wishes)

    def read(self, reader: Callable[[Path], Content], file: PurePosixPath) -> Content | None:
        """The result of a reader for an annotation file; None, and noted, if it cannot be read."""
        try:
            return reader(self.root / file)
        except DataError as error:
            self.note.entry(WRONG_FILES, str(error))
            return None

    def keep_backgrounds(self, custom: bool) -> bool:
        """Whether to keep pictures without a label; `custom` is what is usual for the format."""
        return custom if self.wishes.backgrounds is None else self.wishes.backgrounds

    def note_unlabelled(self, kept: bool, number: int) -> None:
        """Count pictures without a label."""
        self.note.count(BACKGROUNDS if kept else UNLABELLED, number)
