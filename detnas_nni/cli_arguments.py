"""What `detnas` can be called with: its commands, their arguments and their help."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from detnas_nni import __version__

# The keys of data.formats.recognise.FORMS, which a parser that is to be quick does not import.
_FORMS = ("coco", "voc", "yolo", "cvat", "labelme", "via", "labelstudio", "kitti", "lvis", "openimages")

_FINISHED_WEIGHTS = "of a single net; or of a supernet, with --arch"


def parser() -> argparse.ArgumentParser:
    detnas = argparse.ArgumentParser(
        prog="detnas",
        description="Search a backbone with your detector's AP as the guide (DetNAS, on NNI).",
        epilog="The steps: init, pretrain, finetune, search, retrain, report, export. "
        "\n\nexample:\n  detnas pretrain -c experiments/quickstart/detnas.yaml",
        formatter_class=_HelpFormatter,
    )
    detnas.add_argument("--version", action="version", version=f"detnas {__version__}")
    commands = detnas.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _add_init(commands)

    data = commands.add_parser("data", help="make data: examples, or crops of yours to pre-train on")
    kinds = data.add_subparsers(title="kinds", metavar="KIND", required=True)
    command = _command(
        kinds,
        "shapes",
        "generate an image set of shapes",
        "Draw an image set that a small net learns on a CPU in minutes: an ImageFolder part (one shape an "
        "image) and a COCO part (several, with clutter), each with its splits. The same seed draws the same.",
        "detnas data shapes --out runs/quickstart/data",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    command.add_argument(
        "--seed", type=_natural, default=0, help="of all that is drawn (default: %(default)s)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a folder of other settings")
    command = _command(
        kinds,
        "crops",
        "cut the training boxes out, to pre-train on",
        "Cut the boxes of the config's training images, without those held out, into a folder a class and "
        "one of background: labelled images for `detnas pretrain` where there is no ImageNet.",
        "detnas data crops -c experiments/bccd/detnas.yaml --out runs/bccd/crops",
    )
    command.add_argument("-c", "--config", required=True, metavar="FILE", help="the experiment's YAML")
    _add_overrides(command)
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write (default: data.classification.train)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace crops of other boxes")
    command = _command(
        kinds,
        "convert",
        "write a data set of another format as COCO",
        "Read YOLO, CVAT's XML, labelme, VIA, Label Studio's JSON, KITTI, LVIS or Open Images, and write "
        "COCO's JSON, a file a split, with a note of what was read, changed and left out. No picture is "
        "copied, and no file of the data set is touched.",
        "detnas data convert my-yolo-folder --out converted",
    )
    command.add_argument("path", type=Path, metavar="PATH", help="the folder, or its annotation file")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    _add_form(command)
    command.add_argument(
        "--unlabelled",
        choices=("background", "leave-out"),
        help="YOLO, KITTI: what a picture without a label file is (default: the format's custom)",
    )
    command.add_argument("--class-key", metavar="NAME", help="VIA: the attribute that is the class")
    command.add_argument("--strict", action="store_true", help="an entry that is wrong is an error")
    command.add_argument("--overwrite", action="store_true", help="replace a conversion of another data set")

    command = _step(
        commands,
        "pretrain",
        "train the classification supernet",
        "Step 1. Train the supernet as a classifier on an ImageFolder, one random path a step. An "
        "interrupted training goes on where it stood. Writes RUN_DIR/pretrain/supernet.pt.",
    )
    _add_fresh(command)
    _add_fast_dev_run(command)
    command = _step(
        commands,
        "finetune",
        "train the detection supernet",
        "Step 2. Train the supernet in the detector, its trunk inherited from step 1. An interrupted "
        "training goes on where it stood. Writes RUN_DIR/finetune/supernet.pt.",
    )
    _add_fresh(command)
    _add_fast_dev_run(command)
    command = _step(
        commands,
        "search",
        "search in this process, without a server",
        "Step 3. Search by the config's strategy, each candidate measured with the supernet's weights. "
        "`nnictl create --config experiments/NAME/search.yaml` runs the same search as trials in NNI's "
        "training service, with its web UI. A search that was interrupted goes on from its journal. Writes "
        "RUN_DIR/search/journal.jsonl and best_architecture.json.",
    )
    _add_fresh(command)
    _add_fast_dev_run(command)
    _step(
        commands,
        "trial",
        "evaluate the candidate that NNI hands out",
        "One trial of an nnictl experiment: NNI starts this, as `trialCommand` in search.yaml says.",
    )

    command = _command(
        commands,
        "follow",
        "watch an nnictl experiment until it ends",
        "Print the trials of a running NNI experiment as they end; leaves when the search has ended, with "
        "status 1 if the experiment failed.",
        "detnas follow --port 8080",
    )
    command.add_argument("--port", type=int, default=8080, help="the web UI's (default: %(default)s)")
    command.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: %(default)s)"
    )
    command.add_argument("--stop", action="store_true", help="stop the experiment's server in the end")

    _step(
        commands,
        "stop",
        "end a search that runs in this experiment's folder",
        "End the search of the config's folder with all its processes: NNI's server and trials, or the "
        "search in process. What is evaluated stays; the search goes on when it is started again.",
    )

    command = _step(
        commands,
        "export",
        "write a search's best architecture, or a finished net",
        "Step 4. Write the best architecture of a search, also while it runs, as JSON. With --weights, a "
        "finished net: the whole detector or its backbone, by default to RUN_DIR/export/.",
        "--weights net.pt --format onnx",
    )
    command.add_argument("--rank", type=_positive, metavar="N", help="of the search: the N-th best")
    command.add_argument("--weights", type=Path, metavar="FILE", help=_FINISHED_WEIGHTS)
    command.add_argument("--arch", type=Path, metavar="FILE", help="the architecture's JSON")
    command.add_argument(
        "--format", choices=("torch", "torchscript", "onnx"), help="of the net (default: torch)"
    )
    command.add_argument("--part", choices=("detector", "backbone"), help="(default: detector)")
    command.add_argument(
        "--size", type=_positive, nargs=2, metavar=("H", "W"), help="of ONNX: one size alone, pixels"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="the file to write")

    command = _step(
        commands,
        "report",
        "show what a search has found, as a page with figures",
        "Show a search that runs or has ended: AP over evaluations and over cost, the best architectures, "
        "time and failures, training curves, how well the supernet ranks. Writes RUN_DIR/report/report.html, "
        "which needs no network, and its figures as PNG and SVG.",
    )
    command.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="SEARCH",
        help="other searches, each by its config or its folder (runs/NAME/search), at an equal budget; "
        "seeds of one strategy become a mean and a range",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="default: RUN_DIR/report")

    command = _step(
        commands,
        "sample",
        "draw random architectures",
        "Draw random architectures within the constraint: the paper's random baseline, to be retrained. "
        "Writes RUN_DIR/samples/random_00.json and on.",
        "--count 5",
    )
    command.add_argument("--count", type=_positive, required=True, metavar="N", help="how many")
    _add_fast_dev_run(command)

    command = _step(
        commands,
        "retrain",
        "train the final net and measure it on the test split",
        "Step 5. Train the final net: the architecture as a classifier from scratch, then as a detector, "
        "then its AP on the test split, which no search has seen. Of several architectures also mean and "
        "spread. Writes RUN_DIR/retrain/NAME/results.json and the nets' weights.",
        "--arch runs/quickstart/search/best_architecture.json",
    )
    command.add_argument(
        "--arch", type=Path, nargs="+", required=True, metavar="FILE", help="architectures' JSON"
    )
    command.add_argument(
        "--init",
        type=_init,
        metavar="INIT",
        help="where the detector starts: classification, supernet, scratch, or a file of weights "
        "(default: the config's retrain.init)",
    )
    _add_fresh(command)
    _add_fast_dev_run(command)

    command = _command(
        commands,
        "predict",
        "detect in images with a finished net",
        "Detect in images: writes a copy of each with the boxes drawn, and all detections in COCO's form of "
        "results. Status 1 if an image could not be read. Without -c, --weights is a file that says all "
        "itself, such as `detnas export --weights` writes.",
        "detnas predict -c experiments/quickstart/detnas.yaml --weights net.pt photo.jpg holiday/",
    )
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, patterns")
    command.add_argument("-c", "--config", metavar="FILE", help="the experiment's YAML")
    _add_overrides(command)
    command.add_argument("--weights", type=Path, required=True, metavar="FILE", help=_FINISHED_WEIGHTS)
    command.add_argument("--arch", type=Path, metavar="FILE", help="the architecture's JSON")
    command.add_argument(
        "--score", type=_share, default=0.5, metavar="S", help="the least that is shown (default: 0.5)"
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="default: RUN_DIR/predictions, or predictions"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="default: DIR/detections.json")

    command = _command(
        commands,
        "import-reference",
        "convert the authors' released weights",
        "Read a classifier's checkpoint of the authors' release, of a supernet or of a single net, and write "
        "it as weights for finetune.weights, retrain.weights and `detnas evaluate --weights`.",
        "detnas import-reference COCO_FPN_300M.pth --out weights/coco_fpn_300m.pt",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="the authors' file")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    command.add_argument(
        "--space", metavar="NAME", help="small, large or 3.8g (default: the one that the shapes fit)"
    )
    command.add_argument("--ops", metavar="2,1,0,…", help="of a supernet take this path alone")
    command.add_argument(
        "--shuffle",
        choices=("interleave", "even_odd"),
        help="the channel shuffle (default: interleave of a supernet, even_odd of a single net)",
    )

    command = _command(
        commands,
        "reproduce",
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
    _add_overrides(command)
    _add_fast_dev_run(command)

    command = _command(
        commands,
        "doctor",
        "say what is wrong with this environment, and how to mend it",
        "Check versions, GPUs, ports, memory, disk, NNI, and with -c an experiment's config, data and "
        "folders. Prints each finding and the command that mends it; status 1 if there is a problem.",
        "detnas doctor -c experiments/quickstart/detnas.yaml",
    )
    command.add_argument("-c", "--config", metavar="FILE", help="an experiment's YAML")
    _add_overrides(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_strict(command)
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--close-nni", action="store_true", help="let NNI's servers listen on this machine alone, from now on"
    )
    group.add_argument("--open-nni", action="store_true", help="undo that")

    command = _command(
        commands,
        "count",
        "count an architecture's MACs and parameters",
        "Print MACs and parameters as one JSON object, of the backbone (stem and blocks) and of the "
        "classifier (with last convolution and 1000-way layer). MACs leave out BN, bias and activations.",
        "detnas count --space small --ops 2,1,2,0,2,1,1,2,3,3,1,3,0,0,3,1,3,1,3,2",
    )
    command.add_argument("--space", metavar="NAME", help="the space of --ops: tiny, small, large, 3.8g, …")
    _add_architecture(command)
    command.add_argument(
        "--resolution", type=_positive, default=224, help="image side, pixels (default: 224)"
    )
    command.add_argument(
        "--latency-table", type=Path, metavar="FILE", help="also the latency, by such a table"
    )

    command = _command(
        commands,
        "latency",
        "measure how long each candidate of each block takes here",
        "Measure a table that predicts any architecture's latency on this device, and say how well. "
        "Writes search.constraint.latency_table, or RUN_DIR/latency.json.",
        "detnas latency -c experiments/quickstart/detnas.yaml --threads 1",
    )
    group = command.add_mutually_exclusive_group(required=True)
    group.add_argument("-c", "--config", metavar="FILE", help="an experiment's YAML")
    group.add_argument("--space", metavar="NAME", help="or a space: tiny, small, large, 3.8g, …")
    _add_overrides(command)
    command.add_argument("--resolution", type=_positive, metavar="PIXELS", help="image side")
    command.add_argument("--batch", type=_positive, default=1, metavar="N", help="images (default: 1)")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"))
    command.add_argument("--threads", type=_positive, metavar="N", help="torch's on a CPU")
    command.add_argument("--out", type=Path, metavar="FILE", help="the file to write")
    command.add_argument(
        "--check", type=_natural, default=30, metavar="N", help="nets to predict (default: %(default)s)"
    )
    command.add_argument(
        "--rounds", type=_positive, default=200, metavar="N", help="of measuring (default: %(default)s)"
    )

    command = _step(
        commands,
        "evaluate",
        "measure a candidate, or a net that was trained on its own",
        "Measure one architecture as the search does: inherit, recalibrate BN, AP on the search split. With "
        "--weights of a net that was trained on its own, measure that net as it is. Prints one JSON object.",
        "--arch runs/quickstart/search/best_architecture.json",
    )
    _add_architecture(command, required=False)
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="of another supernet, or of a single net"
    )
    command.add_argument("--split", choices=("search", "test"), help="of a single net (default: test)")
    command.add_argument("--seed", type=_natural, help="of the calibration images (default: the search's)")
    _add_fast_dev_run(command)
    return detnas


def _add_init(commands: argparse._SubParsersAction) -> None:
    command = _command(
        commands,
        "init",
        "write an experiment for your own data",
        "Look at your images and boxes, say what is wrong with them, and write an experiment's folder whose "
        "values fit them, this machine and your time.",
        "detnas init --coco images train.json --test images test.json --hours 8",
    )
    command.usage = "detnas init (PATH | --coco IMAGES FILE | --voc DIR) [--hours H] …"
    command.add_argument("path", type=Path, nargs="?", metavar="PATH", help="a data set as its tool left it")
    _add_form(command)
    command.add_argument("--coco", nargs=2, metavar=("IMAGES", "FILE"), help="to train on, in COCO form")
    command.add_argument("--voc", type=Path, metavar="DIR", help="a Pascal VOC folder")
    command.add_argument(
        "--image-set", metavar="NAME", help="VOC: to train on (default: trainval, train, all)"
    )
    command.add_argument(
        "--val", nargs="+", metavar="SET", help="IMAGES FILE, or a VOC set or folder: guides the search"
    )
    command.add_argument("--test", nargs="+", metavar="SET", help="likewise: for the final number")
    command.add_argument("--one-based", action="store_true", help="VOC: pixels are counted from 1")
    command.add_argument(
        "--backgrounds", action="store_true", help="VOC: pictures without an XML file have no object"
    )
    command.add_argument(
        "--exif",
        choices=("auto", "shown", "stored"),
        default="auto",
        help="photos with an EXIF orientation: which way up their boxes are",
    )
    command.add_argument(
        "--box-form",
        choices=("auto", "xywh", "xyxy", "cxcywh"),
        default="auto",
        help="what a box's four numbers are",
    )
    command.add_argument(
        "--box-units", choices=("auto", "pixels", "shares"), default="auto", help="their unit"
    )
    command.add_argument(
        "--crowds",
        choices=("ignored", "objects"),
        default="ignored",
        help="COCO: what iscrowd marks; CVAT's masks are objects",
    )
    _add_strict(command)
    command.add_argument(
        "--pretrain",
        choices=("crops", "folder", "supernet", "none"),
        metavar="START",
        help="of the trunk: crops, folder, supernet, none",
    )
    command.add_argument(
        "--classification", type=Path, metavar="DIR", help="labelled images, a folder a class"
    )
    command.add_argument("--supernet", type=Path, metavar="FILE", help="a trained classification supernet")
    command.add_argument("--hours", type=_hours, metavar="H", help="cut the schedules to so much time")
    command.add_argument("--no-timing", action="store_true", help="measure no steps; a plan without times")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", metavar="NAME", help="auto, cpu or cuda"
    )
    command.add_argument("--name", type=_name, help="of the experiment (default: the data folder's)")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: experiments/NAME")
    command.add_argument("--overwrite", action="store_true", help="write the folder's files anew")


def _add_form(command: argparse.ArgumentParser) -> None:
    """What may be said of a data set whose form is looked for."""
    command.add_argument(
        "--from", dest="form", choices=_FORMS, metavar="FORMAT", help="of PATH (default: recognised)"
    )
    command.add_argument("--images", type=Path, metavar="DIR", help="the pictures, if not below PATH")


def _add_strict(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--strict", action="store_true", help="make it an error to correct anything in annotations"
    )


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps prose to the terminal, and keeps an example on one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        prose, example, command = text.partition("example:\n")
        wrapped = super()._fill_text(prose, width, indent)
        return "\n\n".join(part for part in (wrapped, example + command) if part)


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    summary: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=_HelpFormatter,
    )
    command.set_defaults(command=name)
    return command


def _step(
    commands: argparse._SubParsersAction,
    name: str,
    summary: str,
    description: str,
    example: str = "",
) -> argparse.ArgumentParser:
    """A command that works on an experiment's config."""
    example = f"detnas {name} -c experiments/quickstart/detnas.yaml {example}".rstrip()
    command = _command(commands, name, summary, description, example)
    command.add_argument("-c", "--config", required=True, metavar="FILE", help="the experiment's YAML")
    _add_overrides(command)
    return command


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the config, such as search.population=20; may be given again",
    )


def _add_fresh(command: argparse.ArgumentParser) -> None:
    command.add_argument("--fresh", action="store_true", help="delete what this step has done and start over")


def _add_fast_dev_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--fast-dev-run",
        action="store_true",
        help="will it start? Two iterations on a handful of the configured images, in RUN_DIR/fast-dev-run",
    )


def _add_architecture(command: argparse.ArgumentParser, required: bool = True) -> None:
    group = command.add_mutually_exclusive_group(required=required)
    group.add_argument("--ops", metavar="2,1,0,…", help="one candidate's index a block")
    group.add_argument("--arch", type=Path, metavar="FILE", help="an architecture's JSON")


def _init(text: str) -> str | Path:
    if text in ("classification", "supernet", "scratch"):
        return text
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither classification, supernet nor scratch, nor a file of weights that is there"
        )
    return Path(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours above 0")
    return hours


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of letters, digits, '.', '_' and '-'")
    return text


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
