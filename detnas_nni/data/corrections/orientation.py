"""Which way up a photo is, and how large, where its annotation does not say.

Boxes are in pixels of a photo as displayed, or as stored; EXIF's orientation leads from one to the other, and
tools write the size of either. The boxes decide if they can: all inside one way, some outside the other way.
Otherwise the stated size does. If neither can (orientations 2 to 4, and 5 to 8 of squares), a photo is turned
as displayed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from detnas_nni.data.corrections.units import sticks_out
from detnas_nni.data.headers import Header, read_header
from detnas_nni.data.problems import Kind, Problems

Exif = Literal["auto", "shown", "stored"]

FROM_PICTURES = Kind(
    "sizes of pictures",
    "image has no usable size in the annotations; read from the file",
    "images have no usable size in the annotations; read from the files",
)
BOXES_SHOW = Kind(
    "sizes of the other way up",
    "photo has an EXIF orientation and the size of the other way up: its boxes extend beyond it; read as the "
    "boxes show (data.detection.exif)",
    "photos have an EXIF orientation and the size of the other way up: boxes extend beyond it; read as the "
    "boxes show (data.detection.exif)",
)
BY_CONVENTION = Kind(
    "orientations that nothing tells",
    "photo has an EXIF orientation that neither its boxes nor its size confirm; turned as displayed "
    "(data.detection.exif: stored, or --exif stored, leaves it)",
    "photos have an EXIF orientation that neither boxes nor sizes confirm; turned as displayed "
    "(data.detection.exif: stored, or --exif stored, leaves them)",
)
WIDE = Kind(
    "wide values",
    "image has more than 8 bits per value; scaled by the range of its type (v >> 8 of 16 bits)",
    "images have more than 8 bits per value; scaled by the range of their type (v >> 8 of 16 bits)",
    corrects=False,
)

_THREADS = 8  # that open files: they wait for the disk


@dataclass
class Frames:
    """The frames that boxes are in, image by image; updated in place.

    Attributes:
        files: M image files.
        sizes: (M, 2) int64 width and height.
        upright: (M,) bool, whether a photo is turned if its size does not decide.
        headers: those that were read, by the image's index.
    """

    files: list[Path]
    sizes: np.ndarray
    upright: np.ndarray
    headers: dict[int, Header | None]

    def look(self, places: Iterable[int]) -> None:
        """Read the headers of the images at these indices."""
        unread = [place for place in places if place not in self.headers]
        files = [self.files[place] for place in unread]
        # Once around all threads: Python's warning filters belong to the process.
        with warnings.catch_warnings(action="ignore"):
            if len(files) < 2 * _THREADS:
                found = list(map(read_header, files))
            else:
                with ThreadPoolExecutor(_THREADS) as threads:
                    found = list(threads.map(read_header, files))
        self.headers.update(zip(unread, found, strict=True))

    def turned_by_a_quarter(self, places: np.ndarray) -> np.ndarray:
        """Which (M,) bool of the images have two frames of different shape."""
        self.look(places.tolist())
        return np.array([self._has_two(int(place)) for place in places], dtype=bool)

    def _has_two(self, place: int) -> bool:
        header = self.headers.get(place)
        if header is None or header.stored == header.shown:
            return False
        return tuple(self.sizes[place].tolist()) in (header.stored, header.shown)


def settle(
    frames: Frames, boxes: np.ndarray, image: np.ndarray, exif: Exif, problems: Problems, *, scan: bool
) -> None:
    """Determine the frame of each image, in place.

    Args:
        frames: with the sizes as stated.
        boxes: (N, 4) corners in pixels.
        image: (N,) the image of each.
        exif: what the user says.
        problems: collects what is corrected.
        scan: whether to open all files, to report also orientations and values that need no correction.
    """
    if exif != "auto":
        _as_asked(frames, exif)
    else:
        _as_boxes_show(frames, boxes, image, problems)
    if scan:
        frames.look(range(len(frames.files)))
        _tell(frames, exif, problems)


def _as_asked(frames: Frames, exif: Exif) -> None:
    frames.look(range(len(frames.files)))
    for place, header in frames.headers.items():
        if header is not None and header.orientation != 1:
            frames.upright[place] = exif == "shown"
            if tuple(frames.sizes[place].tolist()) in (header.stored, header.shown):
                frames.sizes[place] = header.shown if exif == "shown" else header.stored


def _as_boxes_show(frames: Frames, boxes: np.ndarray, image: np.ndarray, problems: Problems) -> None:
    out = np.unique(image[sticks_out(boxes, frames.sizes[image])])
    if not len(out):
        return
    doubtful = out[frames.turned_by_a_quarter(out)]
    proof = _fit_the_other(frames, boxes, image, doubtful)
    if not proof:
        return
    shown = {frames.headers[place].shown == tuple(frames.sizes[place].tolist()[::-1]) for place in proof}
    for place in proof:
        _turn(frames, place, problems)
    if len(shown) > 1:
        return
    # A tool that writes the sizes of one way and the boxes of the other does so with every photo.
    by_tool = shown.pop()
    frames.look(range(len(frames.files)))
    left = np.array([place for place in frames.headers if place not in proof], dtype=np.int64)
    quarter = left[frames.turned_by_a_quarter(left)] if len(left) else left
    fit_both = _fit_the_other(frames, boxes, image, quarter, also_here=True)
    for place in left.tolist():
        header = frames.headers[place]
        if header is None or header.orientation == 1:
            continue
        if header.stored == header.shown:
            frames.upright[place] = by_tool
        elif place in fit_both and tuple(frames.sizes[place].tolist()) != (
            header.shown if by_tool else header.stored
        ):
            _turn(frames, place, problems)


def _fit_the_other(
    frames: Frames, boxes: np.ndarray, image: np.ndarray, places: np.ndarray, *, also_here: bool = False
) -> set[int]:
    """The images whose boxes are all inside the frame of the other way up.

    Args:
        frames, boxes, image: as in `settle`.
        places: the indices of images with two frames.
        also_here: whether boxes may be inside the stated frame as well.
    """
    if not len(places):
        return set()
    of_these = np.isin(image, places)
    boxes, image = boxes[of_these], image[of_these]
    sizes = frames.sizes[image]
    here, there = sticks_out(boxes, sizes), sticks_out(boxes, sizes[:, ::-1])
    out_here, out_there = set(image[here].tolist()), set(image[there].tolist())
    fitting = set(places.tolist()) - out_there
    return fitting if also_here else fitting & out_here


def _turn(frames: Frames, place: int, problems: Problems) -> None:
    width, height = frames.sizes[place].tolist()
    frames.sizes[place] = height, width
    problems.correct(
        BOXES_SHOW,
        f"{frames.files[place].name}, {width}x{height} in the annotations, read as {height}x{width}",
    )


def _tell(frames: Frames, exif: Exif, problems: Problems) -> None:
    for place, header in sorted(frames.headers.items()):
        if header is None:
            continue
        if header.wide:
            problems.correct(WIDE, frames.files[place].name)
        same = header.stored == header.shown
        if exif == "auto" and header.orientation != 1 and same and frames.upright[place]:
            problems.correct(BY_CONVENTION, f"{frames.files[place].name}, orientation {header.orientation}")
