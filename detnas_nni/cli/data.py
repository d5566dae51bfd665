"""`detnas init`, `detnas data`: from a data set, whichever tool wrote it, to an experiment and its images."""

from __future__ import annotations

import argparse
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni.cli.arguments import (
    Commands,
    above_zero,
    add_command,
    add_overrides,
    add_strict,
    config_of,
    natural,
    say,
)
from detnas_nni.errors import UsageError

if TYPE_CHECKING:
    from detnas_nni.init.sources import Sources

# The keys of data.formats.recognise.FORMS, which is not imported here so that the parser stays quick.
_FORMS = ("coco", "voc", "yolo", "cvat", "labelme", "via", "labelstudio", "kitti", "lvis", "openimages")


def add_init(commands: Commands) -> None:
    command = add_command(
        commands,
        "init",
        _init,
        "write an experiment for your own data",
        "Check your data, say what is wrong with it, and write an experiment's folder that fits it, this "
        "machine and your time. docs/data.md has a few more options.",
        "detnas init --coco images train.json --test images test.json --hours 8",
    )
    command.usage = "detnas init (PATH | --coco IMAGES FILE | --voc DIR) [--hours H] …"
    command.add_argument("path", type=Path, nargs="?", metavar="PATH", help="a data set as its tool wrote it")
    _add_format(command)
    command.add_argument("--coco", nargs=2, metavar=("IMAGES", "FILE"), help="training data in COCO format")
    command.add_argument("--voc", type=Path, metavar="DIR", help="a Pascal VOC folder")
    command.add_argument(
        "--image-set", metavar="NAME", help="VOC: the training set (default: trainval, train, all)"
    )
    command.add_argument(
        "--val", nargs="+", metavar="SET", help="IMAGES FILE, or a VOC set or folder: guides the search"
    )
    command.add_argument("--test", nargs="+", metavar="SET", help="the same, for the final number")
    _add_rare(command)
    add_strict(command)
    command.add_argument(
        "--pretrain",
        choices=("crops", "folder", "supernet", "imagenet", "none"),
        metavar="START",
        help="trunk's start: crops, folder, supernet, imagenet, none",
    )
    command.add_argument(
        "--classification", type=Path, metavar="DIR", help="labelled images, a folder per class"
    )
    command.add_argument("--supernet", type=Path, metavar="FILE", help="a trained classification supernet")
    command.add_argument(
        "--no-search", action="store_true", help="plan a published net's training alone, to compare with"
    )
    command.add_argument("--hours", type=above_zero, metavar="H", help="cut the schedules to fit this time")
    command.add_argument("--no-timing", action="store_true", help="time no steps; the plan has no times")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", metavar="NAME", help="auto, cpu or cuda"
    )
    command.add_argument("--name", type=_name, help="its name (default: --out's, or the data folder's)")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: experiments/NAME")
    command.add_argument("--overwrite", action="store_true", help="replace the folder's files")


def _add_format(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--from", dest="form", choices=_FORMS, metavar="FORMAT", help="PATH's format (default: recognised)"
    )


def _add_rare(command: argparse.ArgumentParser) -> None:
    """Options that few need, left out of the help so that it fits a screen."""
    command.add_argument("--images", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    command.add_argument("--one-based", action="store_true", help=argparse.SUPPRESS)
    command.add_argument("--backgrounds", action="store_true", help=argparse.SUPPRESS)
    for name, choices in {  # keys of the config's data.detection, and their values
        "--exif": ("auto", "shown", "stored"),
        "--box-form": ("auto", "xywh", "xyxy", "cxcywh"),
        "--box-units": ("auto", "pixels", "shares", "percent", "thousandths"),
        "--crowds": ("ignored", "objects"),
    }.items():
        command.add_argument(name, choices=choices, default=choices[0], help=argparse.SUPPRESS)


def _init(options: argparse.Namespace) -> None:
    from detnas_nni.data.entries import Conventions
    from detnas_nni.init import Request, init

    _check_init(options)
    conventions = Conventions(
        exif=options.exif,
        box_form=options.box_form,
        box_units=options.box_units,
        crowds=options.crowds,
        strict=options.strict,
    )
    with _sources(options) as sources:
        request = Request(
            sources,
            conventions=conventions,
            out=options.out,
            pretrain=options.pretrain,
            classification=options.classification,
            supernet=options.supernet,
            search=not options.no_search,
            hours=options.hours,
            timing=not options.no_timing,
            device=options.device,
            overwrite=options.overwrite,
        )
        print(init(request, say=say))


def _sources(options: argparse.Namespace) -> AbstractContextManager[Sources]:
    from detnas_nni.init.sources import coco_sources, experiment_name, plain_path, voc_sources

    name = options.name
    if name is None and options.out is not None:  # it is the run folder's, too: two experiments share none
        name = experiment_name(plain_path(options.out).name)
    if options.path is not None:
        from detnas_nni.init.recognised import recognised_sources

        return recognised_sources(
            options.path,
            say,
            form=options.form,
            images=options.images,
            image_set=options.image_set,
            one_based=options.one_based,
            backgrounds=options.backgrounds,
            strict=options.strict,
            name=name,
            out=options.out,
            overwrite=options.overwrite,
        )
    if options.coco is not None:
        return nullcontext(coco_sources(options.coco, options.val, options.test, name))
    return nullcontext(
        voc_sources(
            *(options.voc, options.image_set, options.val, options.test, options.one_based, name),
            backgrounds=options.backgrounds,
        )
    )


def _check_init(options: argparse.Namespace) -> None:
    """UsageError if a data set is named twice or not at all, or an option belongs to another format."""
    forms = {"PATH": options.path, "--coco": options.coco, "--voc": options.voc}
    named = [name for name, value in forms.items() if value is not None]
    if len(named) != 1:
        what = " and ".join(named) or "nothing"
        raise UsageError(f"expected one of PATH, --coco IMAGES FILE and --voc DIR; got {what}")
    if options.coco is not None:
        for name in ("image_set", "one_based", "backgrounds"):
            if getattr(options, name):
                raise UsageError(f"--{name.replace('_', '-')} goes with --voc")
    for name, value in (("from", options.form), ("images", options.images)):
        if options.path is None and value is not None:
            raise UsageError(f"--{name} goes with PATH, a data set whose format is recognised")
    if options.path is not None and (options.val or options.test):
        raise UsageError(
            "--val and --test go with --coco and --voc; for PATH the splits are found by the names of its "
            "folders"
        )


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name made of letters, digits, '.', '_' and '-'")
    return text


def add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="make examples, or crops of your images to pre-train on")
    kinds = data.add_subparsers(title="kinds", metavar="KIND", required=True)
    command = add_command(
        kinds,
        "shapes",
        _shapes,
        "generate images of shapes",
        "Draw a data set that a small net learns on a CPU in minutes: an ImageFolder part (one shape per "
        "image) and a COCO part (several, with clutter), each with its splits. The same seed gives the same.",
        "detnas data shapes --out runs/quickstart/data",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    command.add_argument("--seed", type=natural, default=0, help="of everything drawn (default: %(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace a folder made with other settings")
    command = add_command(
        kinds,
        "crops",
        _crops,
        "cut out the training boxes, to pre-train on",
        "Cut out the boxes of the config's training images, except those held out, into a folder per class "
        "and one of background: labelled images for `detnas pretrain` where there is no ImageNet.",
        "detnas data crops -c experiments/bccd/detnas.yaml --out runs/bccd/crops",
    )
    command.add_argument("-c", "--config", required=True, metavar="FILE", help="the experiment's YAML")
    add_overrides(command)
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write (default: data.classification.train)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace crops of other boxes")
    _add_convert(kinds)


def _add_convert(kinds: Commands) -> None:
    command = add_command(
        kinds,
        "convert",
        _convert,
        "write a data set of another format as COCO",
        "Read YOLO, CVAT's XML, labelme, VIA, Label Studio's JSON, KITTI, LVIS or Open Images, and write "
        "COCO JSON, one file per split, with a note of what was read, changed and left out. No image is "
        "copied, and no file of the data set is touched.",
        "detnas data convert my-yolo-folder --out converted",
    )
    command.add_argument("path", type=Path, metavar="PATH", help="the folder, or its annotation file")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    _add_format(command)
    command.add_argument("--images", type=Path, metavar="DIR", help="the images, if not below PATH")
    command.add_argument(
        "--unlabelled",
        choices=("background", "leave-out"),
        help="YOLO, KITTI: what an image without a label file is (default: the format's convention)",
    )
    command.add_argument("--class-key", metavar="NAME", help="VIA: the attribute that is the class")
    command.add_argument("--strict", action="store_true", help="make any wrong entry an error")
    command.add_argument("--overwrite", action="store_true", help="replace a conversion of another data set")


def _shapes(options: argparse.Namespace) -> None:
    from detnas_nni.data.shapes import generate_shapes

    generate_shapes(options.out, seed=options.seed, overwrite=options.overwrite)
    print(f"{options.out}: images of shapes, in ImageFolder and in COCO format")


def _crops(options: argparse.Namespace) -> None:
    config = config_of(options)
    from detnas_nni.data.crops import write_crops
    from detnas_nni.data.splits import open_detection

    out = options.out or config.require("data.classification").train
    data = config.require("data.detection")
    images = open_detection(data, config.seed, strict=config.data.strict).train
    crops = write_crops(images, out, seed=config.seed, overwrite=options.overwrite)
    print(f"{out}: {crops.total} crops{'' if crops.written else ', which were there already'}")
    for name, count in crops.counts.items():
        print(f"  {count:>7}  {name}")
    for reason, count in crops.left_out.items():
        print(f"  {count:>7}  boxes left out: {reason}")


def _convert(options: argparse.Namespace) -> None:
    from detnas_nni.data.formats.convert import READERS, convert
    from detnas_nni.data.formats.recognise import recognise
    from detnas_nni.data.formats.source import Wishes

    found = recognise(options.path, options.form)
    if found.form not in READERS:
        raise UsageError(
            f"{options.path}: {found.sentence}; it can be read as it is: detnas init {options.path}"
        )
    print(f"{options.path}: {found.sentence}")
    backgrounds = {None: None, "background": True, "leave-out": False}[options.unlabelled]
    wishes = Wishes(backgrounds=backgrounds, class_key=options.class_key, strict=options.strict)
    written = convert(found, options.out, wishes, options.images, options.overwrite)
    print("\n".join(f"  {line}" for line in written.lines))
    if written.complaints:
        print("What may be wrong with it")
        print("\n".join(f"  - {line}" for line in written.complaints))
    print(f"Next: {written.command}")
