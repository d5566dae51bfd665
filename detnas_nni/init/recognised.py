"""`detnas init PATH`: a folder in any known form, recognised and, if neither COCO nor VOC, converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from detnas_nni.data.formats.coco_files import coco_splits
from detnas_nni.data.formats.convert import FILES, NOTE, convert
from detnas_nni.data.formats.dataset import TEST, TRAIN, VAL, split_of
from detnas_nni.data.formats.recognise import Recognised, recognise
from detnas_nni.data.formats.source import Wishes
from detnas_nni.data.voc_folders import XML_FOLDERS
from detnas_nni.errors import DataError, UsageError
from detnas_nni.init.sources import Sources, coco_sources, experiment_name, plain_path, voc_sources
from detnas_nni.init.write import DATA, expect_free
from detnas_nni.util.files import restored_on_error


@contextmanager
def recognised_sources(
    path: Path,
    say: Callable[[str], None],
    *,
    form: str | None = None,
    images: Path | None = None,
    image_set: str | None = None,
    one_based: bool = False,
    backgrounds: bool = False,
    strict: bool = False,
    name: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> Iterator[Sources]:
    """The sources of a data set whose format is to be recognised.

    Other formats than COCO and VOC are converted to COCO in the experiment's folder `data`; nothing else is
    written, and the user's files are not touched. If the block fails, `data` is as it was before.

    Args:
        path: the folder, or one annotation file.
        say: is called with the format that it was recognised as.
        form: the format's name, if the user gives it.
        images: the folder of the images, if they are elsewhere.
        image_set, one_based: as `voc_sources` takes them.
        backgrounds: whether images without labels are background, even if the format usually leaves them out.
        strict: whether an incorrect entry is an error.
        name: of the experiment; the folder's if None.
        out, overwrite: as in `Request`.

    Raises:
        UsageError: the experiment's folder exists, or an option does not apply to the format.
        DataError: as for `recognise` and `convert`.
    """
    found = recognise(path, form)
    say(f"{path}: {found.sentence}")
    for option, given, forms in (
        ("--image-set", image_set, "Pascal VOC"),
        ("--one-based", one_based, "Pascal VOC"),
        ("--images", images, "other formats than Pascal VOC"),
    ):
        if given and (forms == "Pascal VOC") != (found.form == "voc"):
            raise UsageError(f"{option} goes with {forms}; {path} was {found.sentence}")
    name = name or experiment_name(plain_path(found.root).name)
    if found.form == "coco":
        yield _coco(found, images, name)
        return
    if found.form == "voc":
        yield _voc(found, image_set, one_based, backgrounds, name)
        return
    out = Path("experiments") / name if out is None else out
    expect_free(out, overwrite)
    with restored_on_error(out / DATA, FILES):
        written = convert(
            found, out / DATA, Wishes(backgrounds or None, strict=strict), images, overwrite=True
        )
        pairs = {split: [str(part) for part in pair] for split, pair in written.splits.items()}
        sources = coco_sources(pairs[TRAIN], pairs.get(VAL), pairs.get(TEST), name)
        where = f"{out / DATA}: what was read, as COCO; {NOTE} beside it says how"
        yield replace(
            sources,
            chosen=(where, *written.lines, *sources.chosen),
            told=(*sources.told, *written.complaints),
        )


def _coco(found: Recognised, images: Path | None, name: str) -> Sources:
    splits, chosen = coco_splits(found.root, found.files, found.listing, images)
    pairs = {split: [str(file.images), str(file.annotations)] for split, file in splits.items()}
    sources = coco_sources(pairs[TRAIN], pairs.get(VAL), pairs.get(TEST), name)
    return replace(sources, chosen=(*chosen, *sources.chosen))


def _voc(found: Recognised, image_set: str | None, one_based: bool, backgrounds: bool, name: str) -> Sources:
    """A VOC folder with image sets, a folder per split as in Roboflow's export, or labelImg's one folder."""
    roots = _roots_with_sets(found)
    if len(roots) > 1:
        raise DataError(
            f"{found.root}: has {len(roots)} VOC folders ({', '.join(map(str, roots[:5]))}); expected one. "
            "Give the path of the one to take."
        )
    if roots:
        sets = sorted(file.stem for file in found.listing.of(".txt") if file.parent == roots[0] / _SETS)
        if image_set is None and len(sets) == 1:  # CVAT calls it default
            image_set = sets[0]
        root = found.root / roots[0]
        return voc_sources(root, image_set, None, None, one_based, name, backgrounds=backgrounds)
    splits = _roots_of_splits(found)
    val, test = ([str(found.root / splits[split])] if split in splits else None for split in (VAL, TEST))
    root = found.root / splits[TRAIN]
    return voc_sources(root, image_set, val, test, one_based, name, backgrounds=backgrounds)


def _roots_of_splits(found: Recognised) -> dict[str, PurePosixPath]:
    """The folder of each split: only train, or train, valid and test."""
    by_split: dict[str | None, set[PurePosixPath]] = {}
    apart: set[PurePosixPath] = set()
    for folder in dict.fromkeys(file.parent for file in found.files):
        root = _voc_root(folder)
        if root == folder:
            apart.add(root)
        by_split.setdefault(split_of(root.parts), set()).add(root)
    # Folders of pictures with their XML files, for each day or camera, say, are one set.
    by_split = {
        split: {_common(folders)} if folders <= apart else folders for split, folders in by_split.items()
    }
    if len(by_split) == 1:
        by_split = dict(zip([TRAIN], by_split.values(), strict=True))
    if None in by_split or TRAIN not in by_split or any(len(folders) > 1 for folders in by_split.values()):
        names = sorted(str(folder) for folders in by_split.values() for folder in folders)
        raise DataError(
            f"{found.root}: has VOC annotations in {len(names)} folders ({', '.join(names[:5])}); "
            "expected one, or train, valid and test. Give the path of the one to take."
        )
    return {split: folders.pop() for split, folders in by_split.items()}


def _voc_root(folder: PurePosixPath) -> PurePosixPath:
    """The folder of the set that XML files belong to; for annotations/train it is that folder itself."""
    for at, part in enumerate(folder.parts):
        if part.casefold() in XML_FOLDERS:
            below = folder.parts[at + 1 :]
            return PurePosixPath(*folder.parts[: at + 2 if split_of(below[:1]) else at])
    return folder


def _common(folders: set[PurePosixPath]) -> PurePosixPath:
    """The folder that contains all of them, or the only one."""
    first, *others = sorted(folders)
    return next(
        above for above in (first, *first.parents) if all(folder.is_relative_to(above) for folder in others)
    )


_SETS = PurePosixPath("ImageSets/Main")


def _roots_with_sets(found: Recognised) -> list[PurePosixPath]:
    folders = {file.parent for file in found.listing.of(".txt") if file.parent.parts[-2:] == _SETS.parts}
    return sorted(folder.parent.parent for folder in folders)
