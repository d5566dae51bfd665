"""`detnas`: one subcommand a step. It parses, calls and prints; the work is done elsewhere.

Heavy packages (torch, NNI) are imported by the commands that need them, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni.cli_arguments import parser
from detnas_nni.errors import ArchitectureError, DetNASError, UsageError
from detnas_nni.imports import import_at_once
from detnas_nni.interrupts import interrupts_come_again
from search_spaces import SpaceError

if TYPE_CHECKING:
    from detnas_nni.architecture import Architecture
    from detnas_nni.config import Config

_log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, 1 (it failed) or 2 (the call or the config is wrong)."""
    options = parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    _set_up_logging()
    try:
        with interrupts_come_again():
            status = _COMMANDS[options.command](options)
        sys.stdout.flush()  # here, so that a reader who has left is met below
    except DetNASError as error:
        print(f"detnas: error: {error}{_advice(options, error)}", file=sys.stderr)
        return error.exit_status
    except SpaceError as error:
        print(f"detnas: error: {error}", file=sys.stderr)
        return UsageError.exit_status
    except KeyboardInterrupt:
        print("detnas: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has enough. Python would complain at exit when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a folder that may not be written to
        again = "; make room, then run the same command again: it goes on" if error.errno in _FULL else ""
        print(f"detnas: error: {error}{again}", file=sys.stderr)
        return 1
    return status or 0


def _data_shapes(options: argparse.Namespace) -> None:
    from detnas_nni.data.shapes import generate_shapes

    generate_shapes(options.out, seed=options.seed, overwrite=options.overwrite)
    print(f"{options.out}: images of shapes, in ImageFolder and in COCO form")


def _data_crops(options: argparse.Namespace) -> None:
    config = _config(options)
    from detnas_nni.data.crops import write_crops
    from detnas_nni.data.splits import open_detection

    out = options.out or config.require("data.classification").train
    data = config.require("data.detection")
    images = open_detection(data, config.seed, strict=config.data.strict).train
    crops = write_crops(images, out, seed=config.seed, overwrite=options.overwrite)
    print(f"{out}: {crops.total} crops{'' if crops.written else ', which were there'}")
    for name, count in crops.counts.items():
        print(f"  {count:>7}  {name}")
    for reason, count in crops.left_out.items():
        print(f"  {count:>7}  boxes left out: {reason}")


def _data_convert(options: argparse.Namespace) -> None:
    from detnas_nni.data.formats.convert import READERS, convert
    from detnas_nni.data.formats.recognise import recognise
    from detnas_nni.data.formats.source import Wishes

    found = recognise(options.path, options.form)
    if found.form not in READERS:
        raise UsageError(f"{options.path}: {found.sentence}; it is read as it is: detnas init {options.path}")
    print(f"{options.path}: {found.sentence}")
    backgrounds = {None: None, "background": True, "leave-out": False}[options.unlabelled]
    wishes = Wishes(backgrounds=backgrounds, class_key=options.class_key, strict=options.strict)
    written = convert(found, options.out, wishes, options.images, options.overwrite)
    print("\n".join(f"  {line}" for line in written.lines))
    if written.complaints:
        print("What may be wrong with it")
        print("\n".join(f"  - {line}" for line in written.complaints))
    print(f"To go on: {written.command}")


def _init(options: argparse.Namespace) -> None:
    from detnas_nni.data.reading import Conventions
    from detnas_nni.init.experiment import Request, init
    from detnas_nni.init.sources import coco_sources, voc_sources

    def say(line: str) -> None:
        print(line, flush=True)

    _check_init(options)
    if options.path is not None:
        from detnas_nni.init.recognised import recognised_sources

        sources = recognised_sources(
            options.path,
            say,
            form=options.form,
            images=options.images,
            image_set=options.image_set,
            one_based=options.one_based,
            backgrounds=options.backgrounds,
            strict=options.strict,
            name=options.name,
            out=options.out,
            overwrite=options.overwrite,
        )
    elif options.coco is not None:
        sources = coco_sources(options.coco, options.val, options.test, options.name)
    else:
        sources = voc_sources(
            *(options.voc, options.image_set, options.val, options.test, options.one_based, options.name),
            backgrounds=options.backgrounds,
        )
    conventions = Conventions(
        exif=options.exif,
        box_form=options.box_form,
        box_units=options.box_units,
        crowds=options.crowds,
        strict=options.strict,
    )
    request = Request(
        sources,
        conventions=conventions,
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


def _check_init(options: argparse.Namespace) -> None:
    """UsageError if a data set is named twice or not at all, or an option belongs to another form."""
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
            raise UsageError(f"--{name} goes with PATH, a data set whose form is looked for")
    if options.path is not None and (options.val or options.test):
        raise UsageError(
            "--val and --test go with --coco and --voc; of PATH the splits are found by the names of its "
            "folders"
        )


def _pretrain(options: argparse.Namespace) -> None:
    config = _training_config(options)
    from detnas_nni.supernet.pretrain import pretrain

    _print_once(pretrain(config, fresh=options.fresh))


def _finetune(options: argparse.Namespace) -> None:
    config = _training_config(options)
    from detnas_nni.supernet.finetune import finetune

    _print_once(finetune(config, fresh=options.fresh))


def _retrain(options: argparse.Namespace) -> None:
    if isinstance(options.init, Path):
        weights = json.dumps(str(options.init.resolve()))
        options.overrides += ["retrain.init=classification", f"retrain.weights={weights}"]
    elif options.init is not None:
        options.overrides += [f"retrain.init={options.init}", "retrain.weights=null"]
    config = _training_config(options)
    from detnas_nni.retrain import retrain, summary

    _print_once(summary(retrain(config, options.arch, fresh=options.fresh)))


def _sample(options: argparse.Namespace) -> None:
    from detnas_nni.search.sample import sample

    for path in sample(_config(options), options.count):
        print(path)


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


def _search(options: argparse.Namespace) -> None:
    config = _config(options)
    import_at_once()
    import nni

    # NNI's NAS packages otherwise import pytorch-lightning, and that matplotlib, which a search does not use.
    nni.set_default_framework("none")
    from detnas_nni.search.session import search_in_process

    _print_result(search_in_process(config, fresh=options.fresh))


def _trial(options: argparse.Namespace) -> None:
    config = _config(options)
    import_at_once()
    from detnas_nni.search.trial import run_trial

    run_trial(config)


def _follow(options: argparse.Namespace) -> None:
    from detnas_nni.search.follow import follow

    follow(options.port, every=options.every, stop=options.stop)


def _export(options: argparse.Namespace) -> None:
    if options.weights is not None:
        _export_net(options)
        return
    for name in ("format", "part", "arch", "size"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for a finished net, which --weights names")
    from detnas_nni.export import export_best
    from detnas_nni.search.journal import Journal, journal_path

    config = _config(options)
    journal = Journal(journal_path(config.search_dir))
    _print_result(export_best(config, journal, rank=options.rank or 1, out=options.out))


def _export_net(options: argparse.Namespace) -> None:
    if options.rank is not None:
        raise UsageError("--rank is for the search's architectures; a net's is named by --arch")
    config = _config(options)
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


def _predict(options: argparse.Namespace) -> int:
    if options.config is None and options.overrides:
        raise UsageError("--set changes a config, which -c names")
    config = None if options.config is None else _config(options)
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


def _report(options: argparse.Namespace) -> None:
    config = _config(options)
    from detnas_nni.report import write_report

    print(write_report(config, name=options.config, compare=options.compare, out=options.out))


def _stop(options: argparse.Namespace) -> None:
    from detnas_nni.search.stop import stop

    ended = stop(_config(options))
    print("\n".join(f"ended {what}" for what in ended) or "nothing runs in this folder")


def _doctor(options: argparse.Namespace) -> int:
    if options.close_nni:
        from detnas_nni.loopback import close_nni

        print(f"{close_nni()}: NNI's servers of this environment will listen on 127.0.0.1 alone")
        return 0
    if options.open_nni:
        from detnas_nni.loopback import open_nni

        print("NNI's servers will listen on every interface again" if open_nni() else "nothing to undo")
        return 0
    from detnas_nni.doctor import doctor

    overrides = [*options.overrides, *(["data.strict=true"] if options.strict else [])]
    return doctor(options.config, overrides, json=options.json)


def _count(options: argparse.Namespace) -> None:
    from detnas_nni.cost import counts

    architecture, latency = _architecture(options, options.space), None
    if options.latency_table is not None:
        from detnas_nni.latency.table import read_latency_table

        latency = read_latency_table(options.latency_table, space=architecture.space)
    print(json.dumps(counts(architecture, options.resolution, latency), indent=2))


def _latency(options: argparse.Namespace) -> None:
    config = None if options.config is None else _config(options)
    import_at_once()
    from detnas_nni.latency.command import Order, summary

    order = Order.of_space(options.space, options.resolution) if config is None else Order.of_config(config)
    order = order.changed(
        resolution=options.resolution, device=options.device, threads=options.threads, out=options.out
    )
    table = order.measure(batch_size=options.batch, rounds=options.rounds, check=options.check)
    print(summary(table, order.out))


def _evaluate(options: argparse.Namespace) -> None:
    config = _config(options)
    architecture = None
    if options.arch is not None or options.ops is not None:
        architecture = _architecture(options, config.space.name)
        if architecture.space != config.space.name:
            raise UsageError(
                f"{options.arch}: an architecture of the space {architecture.space}, but {options.config} "
                f"has {config.space.name}"
            )
    import_at_once()
    from detnas_nni.evaluate import is_single_net, measure_weights
    from detnas_nni.search.candidate import CandidateEvaluation

    if options.weights is not None and is_single_net(options.weights):
        metrics = measure_weights(config, options.weights, options.split or "test", architecture)
    elif architecture is None:
        raise UsageError("a supernet's candidate is named by --arch or --ops")
    elif options.split == "test":
        raise UsageError(
            "--split test is for a net that was trained on its own: a supernet's candidates are measured on "
            "the search split alone, and the test split stays unseen"
        )
    else:
        evaluation = CandidateEvaluation(config, options.weights)
        metrics = evaluation.evaluate(architecture, seed=options.seed).reported()
    print(json.dumps(metrics, indent=2))


def _config(options: argparse.Namespace) -> Config:
    from detnas_nni.config_file import load_config

    config = load_config(options.config, options.overrides)
    if getattr(options, "fast_dev_run", False):
        from detnas_nni.fast_dev_run import fast_dev_run

        options.fresh = True
        return fast_dev_run(config)
    return config


def _advice(options: argparse.Namespace, error: DetNASError) -> str:
    if not getattr(options, "fast_dev_run", False):
        return ""
    from detnas_nni.fast_dev_run import advice

    return advice(error)


def _training_config(options: argparse.Namespace) -> Config:
    """The config, in one of the processes that it asks for."""
    config = _config(options)
    import_at_once()
    from detnas_nni.training.distributed import start_processes, world

    start_processes(config.hardware, options.arguments)
    if not world().is_main:
        logging.getLogger().setLevel(logging.WARNING)
    return config


def _print_once(text: object) -> None:
    """Of several processes, one prints."""
    from detnas_nni.training.distributed import world

    if world().is_main:
        print(text)


def _architecture(options: argparse.Namespace, space: str | None) -> Architecture:
    from detnas_nni.architecture import Architecture, parse_ops

    if options.arch is not None:
        return Architecture.from_json(options.arch, trusted=[] if space is None else [space])
    if space is None:
        raise UsageError("--ops needs --space, the space that they are of")
    try:
        return Architecture.from_ops(space, parse_ops(options.ops))
    except ArchitectureError as error:
        raise UsageError(f"--ops {options.ops}: {error}") from None


def _print_result(path: Path) -> None:
    from detnas_nni.architecture import read_document

    best = read_document(path)
    fitness = "AP" if best["provenance"]["task"] == "detection" else "top-1"
    cost = best["cost"]
    latency = f", {cost['latency_ms']:g} ms" if "latency_ms" in cost else ""
    print(f"{path}\n  ops     {','.join(map(str, best['ops']))}")
    print(f"  {fitness:<7} {best['metrics']['default']:.4f} on the search split")
    print(
        f"  cost    {cost['macs'] / 1e6:.2f}M MACs at {cost['resolution']} px, "
        f"{cost['params'] / 1e6:.3f}M parameters" + latency
    )


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    # NNI repeats every exception that it passes on; the user gets it once, from here.
    for name in ("nni.nas.strategy", "nni.nas.execution", "nni.nas.evaluator"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


_COMMANDS = {
    "init": _init,
    "shapes": _data_shapes,
    "crops": _data_crops,
    "convert": _data_convert,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "search": _search,
    "trial": _trial,
    "follow": _follow,
    "export": _export,
    "report": _report,
    "predict": _predict,
    "stop": _stop,
    "doctor": _doctor,
    "sample": _sample,
    "retrain": _retrain,
    "import-reference": _import_reference,
    "reproduce": _reproduce,
    "count": _count,
    "latency": _latency,
    "evaluate": _evaluate,
}


if __name__ == "__main__":
    raise SystemExit(main())
