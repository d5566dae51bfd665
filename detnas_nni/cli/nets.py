"""`detnas export`, `predict`, `import-reference`: finished nets and architectures, to files and on images."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from detnas_nni.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    add_step,
    config_of,
    expect_config,
    positive,
    print_result,
)
from detnas_nni.errors import UsageError
from detnas_nni.util.imports import import_at_once

_FINISHED_WEIGHTS = "of a single net; or of a supernet, with --arch"


def add_export(commands: Commands) -> None:
    command = add_step(
        commands,
        "export",
        _export,
        "write a search's best architecture, or a finished net",
        "Write the best architecture of a search, running or ended, as JSON, and its front of "
        "fitness and cost; with --within, the best within a budget, from any search. With --weights, write a "
        "finished net: the whole detector or its backbone, by default to RUN_DIR/export/.",
        "--weights net.pt --format onnx",
    )
    command.usage = "detnas export -c FILE [--within COST=LIMIT] [--weights FILE] …"
    command.add_argument("--rank", type=positive, metavar="N", help="the search's N-th best")
    command.add_argument(
        "--within",
        type=_limit,
        action="append",
        metavar="COST=LIMIT",
        help="the search's best within macs=40e6, params=1e6 or latency_ms=5; may be repeated",
    )
    command.add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="for latency_ms: the device's table, if not the search's own",
    )
    command.add_argument("--weights", type=Path, metavar="FILE", help=_FINISHED_WEIGHTS)
    command.add_argument("--arch", type=Path, metavar="FILE", help="the architecture's JSON")
    command.add_argument(
        "--format", choices=("torch", "torchscript", "onnx"), help="of the net (default: torch)"
    )
    command.add_argument("--part", choices=("detector", "backbone"), help="(default: detector)")
    command.add_argument(
        "--size", type=positive, nargs=2, metavar=("H", "W"), help="ONNX: a fixed image size, pixels"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="the file to write")


def _export(options: argparse.Namespace) -> None:
    if options.weights is not None:
        _export_net(options)
        return
    for name in ("format", "part", "arch", "size"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for a finished net, which --weights names")
    if options.latency_table is not None and "latency_ms" not in dict(options.within or ()):
        raise UsageError("--latency-table is for --within latency_ms=…")
    from detnas_nni.search.best import export_best
    from detnas_nni.search.budget import export_within
    from detnas_nni.search.front import export_front
    from detnas_nni.search.journal import Journal, journal_path

    config = config_of(options)
    journal = Journal(journal_path(config.search_dir))
    given = {"rank": options.rank or 1, "out": options.out}
    if options.within is not None:
        limits = dict(options.within)
        path = export_within(config, journal, limits, latency_table=options.latency_table, **given)
        print_result(path)
        return
    print_result(export_best(config, journal, **given))
    if given == {"rank": 1, "out": None}:
        print(export_front(config, journal))


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if name not in ("macs", "params", "latency_ms") or not 0 < limit < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a budget; expected macs=N, params=N or latency_ms=MS, a number above 0"
        )
    return name, limit


def _export_net(options: argparse.Namespace) -> None:
    for name in ("rank", "within", "latency_table"):
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for the search's architectures; a net's is named by --arch")
    config = config_of(options)
    import_at_once()
    from detnas_nni.finished.exporting import export

    path = export(
        config,
        options.weights,
        form=options.format or "torch",
        part=options.part or "detector",
        architecture=options.arch,
        out=options.out,
        size=None if options.size is None else tuple(options.size),
    )
    print(path)


def add_predict(commands: Commands) -> None:
    command = add_command(
        commands,
        "predict",
        _predict,
        "detect objects with a finished net",
        "Detect objects in images: write a copy of each with the boxes drawn, and all detections in COCO's "
        "results format. Status 1 if an image could not be read. Without -c, --weights is a file as `detnas "
        "export --weights` writes it, or a net.pt of `detnas retrain`; of the latter category ids then count "
        "from 1.",
        "detnas predict -c experiments/quickstart/detnas.yaml --weights net.pt photo.jpg holiday/",
    )
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, patterns")
    command.add_argument("-c", "--config", metavar="FILE", help="the experiment's YAML")
    add_overrides(command)
    command.add_argument("--weights", type=Path, required=True, metavar="FILE", help=_FINISHED_WEIGHTS)
    command.add_argument("--arch", type=Path, metavar="FILE", help="the architecture's JSON")
    command.add_argument(
        "--score", type=_share, default=0.5, metavar="S", help="the lowest score shown (default: 0.5)"
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="default: RUN_DIR/predictions, or predictions"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="default: DIR/detections.json")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _predict(options: argparse.Namespace) -> int:
    expect_config(options)
    config = None if options.config is None else config_of(options)
    import_at_once()
    from detnas_nni.finished.predicting import predict

    predicted = predict(
        options.weights,
        options.images,
        config=config,
        architecture=options.arch,
        score=options.score,
        out=options.out,
        json=options.json,
    )
    print(predicted)
    return 1 if predicted.unreadable else 0


def add_import_reference(commands: Commands) -> None:
    command = add_command(
        commands,
        "import-reference",
        _import_reference,
        "convert the authors' released weights",
        "Read a classifier checkpoint released by the authors, of a supernet or of a single net, and write "
        "it as weights for finetune.weights, retrain.weights and `detnas evaluate --weights`.",
        "detnas import-reference COCO_FPN_300M.pth --out weights/coco_fpn_300m.pt",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="the authors' file")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    command.add_argument(
        "--space", metavar="NAME", help="small, large or 3.8g (default: the one that the shapes fit)"
    )
    command.add_argument("--ops", metavar="2,1,0,…", help="of a supernet, take only this path")
    command.add_argument(
        "--shuffle",
        choices=("interleave", "even_odd"),
        help="the channel shuffle (default: interleave for a supernet, even_odd for a single net)",
    )


def _import_reference(options: argparse.Namespace) -> None:
    from detnas_nni.architecture import parse_ops
    from detnas_nni.reference import import_reference

    ops = None if options.ops is None else parse_ops(options.ops)
    weights = import_reference(
        options.file, options.out, space=options.space, ops=ops, shuffle=options.shuffle
    )
    net = "supernet" if weights.info.ops is None else f"net {weights.info.architecture}"
    print(
        f"{weights.path}: a {net} of the space {weights.info.space}; the config needs "
        f"`space: {json.dumps({'name': weights.info.space, 'options': dict(weights.info.options)})}`"
    )
