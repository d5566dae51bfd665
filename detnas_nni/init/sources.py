"""Where the user's images are: the arguments of `detnas init` as the config's data sections."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detnas_nni.config import CocoSplit, VocSplit
from detnas_nni.data.voc_folders import read_image_set, readings_of_line, voc_folders
from detnas_nni.errors import DataError, UsageError
from detnas_nni.util.user_files import leaves_folder


@dataclass(frozen=True)
class Sources:
    """The splits, one source each, all in one format.

    Attributes:
        form: coco or voc.
        train: what is trained on.
        search: what guides the search; if None, images are held out of `train`.
        test: what the final net is measured on; if None, images are held out of `train`.
        chosen: sentences on what was chosen where the user did not say.
        name: a name for the experiment.
        told: problems with them that were found so far.
    """

    form: str
    train: CocoSplit | VocSplit
    search: CocoSplit | VocSplit | None
    test: CocoSplit | VocSplit | None
    chosen: tuple[str, ...]
    name: str
    told: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, CocoSplit | VocSplit]:
        """The existing splits, by name."""
        named = {"train": self.train, "search": self.search, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def coco_sources(
    train: Sequence[str], val: Sequence[str] | None, test: Sequence[str] | None, name: str | None
) -> Sources:
    """The sources of COCO files, each given as (images, annotations). UsageError if one is not a pair."""
    splits = [_coco_split("--coco", train)]
    for option, pair in (("--val", val), ("--test", test)):
        splits.append(None if pair is None else _coco_split(option, pair))
    default = plain_path(train[1]).parent.name
    return _settled("coco", *splits, chosen=[], name=name or experiment_name(default))


def voc_sources(
    root: Path,
    image_set: str | None,
    val: Sequence[str] | None,
    test: Sequence[str] | None,
    one_based: bool,
    name: str | None,
    *,
    backgrounds: bool = False,
) -> Sources:
    """The sources of a VOC folder; train and test are looked for if it has image sets.

    Args:
        root: the folder.
        image_set: the set to train on; without image sets, all images.
        val, test: each the name of an image set, or another VOC folder.
        one_based, backgrounds: as in the config.
        name: of the experiment.

    Raises:
        UsageError: `val` or `test` is not one name.
        DataError: the folder has no XML files, or not the image sets that are needed.
    """
    there = voc_folders(root).sets
    chosen: list[str] = []
    if image_set is None and there:
        image_set = next((found for found in ("trainval", "train") if found in there), None)
        if image_set is None:
            raise DataError(
                f"{root / 'ImageSets' / 'Main'}: has neither trainval.txt nor train.txt, but "
                f"{', '.join(there)}; name the set to train on: --image-set NAME"
            )
        chosen.append(f"trained on: the image set {image_set} (--image-set names another)")
    elif image_set is None:
        chosen.append("trained on: all images that have an XML file, as there is no ImageSets/Main")

    def split(image_set: str | None, folder: Path = root) -> VocSplit:
        return VocSplit(
            root=plain_path(folder), image_set=image_set, one_based=one_based, backgrounds=backgrounds
        )

    others: dict[str, VocSplit | None] = {}
    for option, given in (("val", val), ("test", test)):
        if given is not None and len(given) != 1:
            raise UsageError(
                f"--{option} {' '.join(given)}: with --voc, expected the name of one image set, or a folder"
            )
        if given is not None:
            is_folder = given[0] not in there and Path(given[0]).is_dir()
            others[option] = split(None, Path(given[0])) if is_folder else split(given[0])
        elif option in there and option != image_set and (option, image_set) != ("val", "trainval"):
            # trainval has the images of val
            if not _has_annotations(root, option):
                chosen.append(f"left out: the image set {option}, none of whose images has an XML file")
                continue
            chosen.append(f"found: the image set {option} (--{option} names another)")
            others[option] = split(option)
    return _settled(
        "voc",
        split(image_set),
        others.get("val"),
        others.get("test"),
        chosen=chosen,
        name=name or experiment_name(plain_path(root).name),
    )


def _has_annotations(root: Path, image_set: str) -> bool:
    """Whether an image set has an XML file: VOC published the names of test images without annotations."""
    folder = voc_folders(root).xml
    lines = read_image_set(root / "ImageSets" / "Main" / f"{image_set}.txt")
    readings = (reading for _, line in lines for reading in readings_of_line(line))
    return any((folder / f"{reading}.xml").is_file() for reading in readings if not leaves_folder(reading))


def plain_path(path: str | Path) -> Path:
    """An absolute path without `..`; links stay, as the user named them."""
    return Path(os.path.normpath(Path(path).absolute()))


def _settled(
    form: str,
    train: CocoSplit | VocSplit,
    val: CocoSplit | VocSplit | None,
    test: CocoSplit | VocSplit | None,
    chosen: list[str],
    name: str,
) -> Sources:
    if test is None and val is not None:
        chosen.append(
            "without a test split, the val split is kept for the final number, which no search may see; the "
            "search is guided by images held out of the training images"
        )
        val, test = None, val
    return Sources(form, train, val, test, tuple(chosen), name)


def _coco_split(option: str, pair: Sequence[str]) -> CocoSplit:
    if len(pair) != 2:
        raise UsageError(
            f"{option} {' '.join(pair)}: with --coco, expected the image folder and the annotation file"
        )
    images, annotations = (plain_path(part) for part in pair)
    if images.is_file() and annotations.is_dir():
        raise UsageError(f"{option} {' '.join(pair)}: give the image folder first, then the annotation file")
    return CocoSplit(images=images, annotations=annotations)


def experiment_name(name: str) -> str:
    """A name for an experiment, with only the characters that the config allows."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:60].lower() or "mine"
