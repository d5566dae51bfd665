"""`detnas init`, `data`, `doctor`, `reproduce`: an experiment is written, looked at, run from end to end."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from detnas_nni.cli.arguments import (
    Commands,
    add_command,
    add_fast_dev_run,
    add_overrides,
    config_of,
    hours,
    natural,
    say,
)
from detnas_nni.errors import UsageError


def add_init(commands: Commands) -> None:
    command = add_command(
        commands,
        "init",
        _init,
        "write an experiment for your own data",
        "Look at your images and boxes, say what is wrong with them, and write an experiment's folder whose "
        "values fit them, this machine and your time, with a plan of the commands.",
        "detnas init --coco images train.json --test images test.json --hours 8",
    )
    command.usage = "detnas init (--coco IMAGES FILE | --voc DIR) [--test …] [--hours H] …"
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("--coco", nargs=2, metavar=("IMAGES", "FILE"), help="to train on, in COCO form")
    form.add_argument("--voc", type=Path, metavar="DIR", help="a Pascal VOC folder")
    command.add_argument("--image-set", metavar="NAME", help="VOC: to train on (default: trainval or train)")
    command.add_argument(
        "--val", nargs="+", metavar="SPLIT", help="IMAGES FILE, or a VOC set: guides the search"
    )
    command.add_argument("--test", nargs="+", metavar="SPLIT", help="likewise: for the final number")
    command.add_argument("--one-based", action="store_true", help="VOC: pixels are counted from 1")
    command.add_argument(
        "--pretrain", choices=("crops", "folder", "supernet", "none"), help="the trunk's start"
    )
    command.add_argument(
        "--classification", type=Path, metavar="DIR", help="labelled images, a folder a class"
    )
    command.add_argument("--supernet", type=Path, metavar="FILE", help="a trained classification supernet")
    command.add_argument("--hours", type=hours, metavar="H", help="cut the schedules to so much time")
    command.add_argument("--no-timing", action="store_true", help="measure no steps; a plan without times")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what it runs on")
    command.add_argument("--name", type=_name, help="of the experiment (default: the data folder's)")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: experiments/NAME")
    command.add_argument("--overwrite", action="store_true", help="write the folder's files anew")


def _init(options: argparse.Namespace) -> None:
    from detnas_nni.init import Request, init
    from detnas_nni.init.sources import coco_sources, voc_sources

    if options.coco is not None:
        for name in ("image_set", "one_based"):
            if getattr(options, name):
                raise UsageError(f"--{name.replace('_', '-')} goes with --voc")
        sources = coco_sources(options.coco, options.val, options.test, options.name)
    else:
        sources = voc_sources(
            *(options.voc, options.image_set, options.val, options.test, options.one_based, options.name)
        )
    request = Request(
        sources,
        out=options.out,
        pretrain=options.pretrain,
        classification=options.classification,
        supernet=options.supernet,
        hours=options.hours,
        timing=not options.no_timing,
        device=options.device,
        overwrite=options.overwrite,
    )
    print(init(request, say=say))


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of letters, digits, '.', '_' and '-'")
    return text


def add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="make data: examples, or crops of yours to pre-train on")
    kinds = data.add_subparsers(title="kinds", metavar="KIND", required=True)
    command = add_command(
        kinds,
        "shapes",
        _shapes,
        "generate an image set of shapes",
        "Draw an image set that a small net learns on a CPU in minutes: an ImageFolder part (one shape an "
        "image) and a COCO part (several, with clutter), each with its splits. The same seed draws the same.",
        "detnas data shapes --out runs/quickstart/data",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    command.add_argument(
        "--seed", type=natural, default=0, help="of all that is drawn (default: %(default)s)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a folder of other settings")
    command = add_command(
        kinds,
        "crops",
        _crops,
        "cut the training boxes out, to pre-train on",
        "Cut the boxes of the config's training images, without those held out, into a folder a class and "
        "one of background: labelled images for `detnas pretrain` where there is no ImageNet.",
        "detnas data crops -c experiments/bccd/detnas.yaml --out runs/bccd/crops",
    )
    command.add_argument("-c", "--config", required=True, metavar="FILE", help="the experiment's YAML")
    add_overrides(command)
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write (default: data.classification.train)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace crops of other boxes")


def _shapes(options: argparse.Namespace) -> None:
    from detnas_nni.data.shapes import generate_shapes

    generate_shapes(options.out, seed=options.seed, overwrite=options.overwrite)
    print(f"{options.out}: images of shapes, in ImageFolder and in COCO form")


def _crops(options: argparse.Namespace) -> None:
    config = config_of(options)
    from detnas_nni.data.crops import write_crops
    from detnas_nni.data.splits import open_detection

    out = options.out or config.require("data.classification").train
    images = open_detection(config.require("data.detection"), config.seed).train
    crops = write_crops(images, out, seed=config.seed, overwrite=options.overwrite)
    print(f"{out}: {crops.total} crops{'' if crops.written else ', which were there'}")
    for name, count in crops.counts.items():
        print(f"  {count:>7}  {name}")
    for reason, count in crops.left_out.items():
        print(f"  {count:>7}  boxes left out: {reason}")


def add_doctor(commands: Commands) -> None:
    command = add_command(
        commands,
        "doctor",
        _doctor,
        "say what is wrong here, and how to mend it",
        "Check versions, GPUs, ports, memory, disk, NNI, and with -c an experiment's config, data and "
        "folders. Prints each finding and the command that mends it; status 1 if there is a problem.",
        "detnas doctor -c experiments/quickstart/detnas.yaml",
    )
    command.add_argument("-c", "--config", metavar="FILE", help="an experiment's YAML")
    add_overrides(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--close-nni", action="store_true", help="let NNI's servers listen on this machine alone, from now on"
    )
    group.add_argument("--open-nni", action="store_true", help="undo that")


def _doctor(options: argparse.Namespace) -> int:
    if options.close_nni:
        from detnas_nni.search.nnictl.loopback import close_nni

        print(f"{close_nni()}: NNI's servers of this environment will listen on 127.0.0.1 alone")
        return 0
    if options.open_nni:
        from detnas_nni.search.nnictl.loopback import open_nni

        print("NNI's servers will listen on every interface again" if open_nni() else "nothing to undo")
        return 0
    from detnas_nni.doctor import doctor

    return doctor(options.config, options.overrides, json=options.json)


def add_reproduce(commands: Commands) -> None:
    command = add_command(
        commands,
        "reproduce",
        _reproduce,
        "run an experiment of the paper, or list them",
        "Run the steps of an experiment in order; what is finished is left as it is. With --list, the table "
        "of experiments with the published numbers and, where there are results, ours beside them.",
        "detnas reproduce experiments/imagenet_cls_300m",
    )
    command.add_argument(
        "experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="its folder, or its YAML"
    )
    command.add_argument("--list", action="store_true", help="print the table of experiments")
    command.add_argument(
        "--experiments", type=Path, metavar="DIR", help="the folder of experiments for --list"
    )
    add_overrides(command)
    add_fast_dev_run(command)


def _reproduce(options: argparse.Namespace) -> None:
    from detnas_nni import reproduce

    if options.list:
        print(reproduce.format_table(reproduce.experiments(options.experiments)))
    elif options.experiment is None:
        raise UsageError("name an experiment's folder, or pass --list")
    else:
        reproduce.reproduce(
            options.experiment, overrides=options.overrides, fast_dev_run=options.fast_dev_run
        )
