"""`detnas pretrain`, `finetune`, `retrain`, `audit`: the commands that train nets."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni.cli.arguments import (
    Commands,
    above_zero,
    add_fast_dev_run,
    add_fresh,
    add_step,
    config_of,
    positive,
    say,
)
from detnas_nni.util.imports import import_at_once

if TYPE_CHECKING:
    from detnas_nni.config import Config


def add_pretrain(commands: Commands) -> None:
    command = add_step(
        commands,
        "pretrain",
        _pretrain,
        "train the classification supernet",
        "Step 1. Train the supernet as a classifier on an ImageFolder, one random path per step. An "
        "interrupted training resumes where it stopped. Writes RUN_DIR/pretrain/supernet.pt.",
    )
    add_fresh(command)
    add_fast_dev_run(command)


def _pretrain(options: argparse.Namespace) -> None:
    config = _training_config(options)
    from detnas_nni.supernet.steps import pretrain

    _print_once(pretrain(config, fresh=options.fresh))


def add_finetune(commands: Commands) -> None:
    command = add_step(
        commands,
        "finetune",
        _finetune,
        "train the detection supernet",
        "Step 2. Train the supernet in the detector, with the trunk inherited from step 1. An interrupted "
        "training resumes where it stopped. Writes RUN_DIR/finetune/supernet.pt.",
    )
    add_fresh(command)
    add_fast_dev_run(command)


def _finetune(options: argparse.Namespace) -> None:
    config = _training_config(options)
    from detnas_nni.supernet.steps import finetune

    _print_once(finetune(config, fresh=options.fresh))


def add_retrain(commands: Commands) -> None:
    command = add_step(
        commands,
        "retrain",
        _retrain,
        "train the final net and measure it on the test split",
        "Step 4. Train the final net, the architecture as a classifier from scratch and then as a detector, "
        "and measure its AP on the test split, which no search has seen. For several architectures also "
        "give mean and spread. Writes RUN_DIR/retrain/NAME/results.json and the nets' weights.",
        "--arch runs/quickstart/search/best_architecture.json",
    )
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--arch", type=Path, nargs="+", metavar="FILE", help="architectures' JSON")
    which.add_argument(
        "--front", type=positive, metavar="K", help="K architectures spread over the front of the search"
    )
    command.add_argument(
        "--init",
        type=_start,
        metavar="INIT",
        help="where the detector starts: classification, supernet, imagenet, scratch, or a file of weights "
        "(default: the config's retrain.init)",
    )
    add_fresh(command)
    add_fast_dev_run(command)


def _start(text: str) -> str | Path:
    if text in ("classification", "supernet", "imagenet", "scratch"):
        return text
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither classification, supernet, imagenet nor scratch, nor an existing file of "
            "weights"
        )
    return Path(text)


def _retrain(options: argparse.Namespace) -> None:
    _override_start(options)
    architectures = options.arch or _members(options)
    config = _training_config(options)
    from detnas_nni.finished.retrain import retrain, summary

    _print_once(summary(retrain(config, architectures, fresh=options.fresh)))


def _members(options: argparse.Namespace) -> list[Path]:
    """Members of the front of the config's own search, even where a fast dev run trains them."""
    from detnas_nni.config.reading import load_config
    from detnas_nni.search.front import write_members
    from detnas_nni.search.journal import Journal, journal_path

    config = load_config(options.config, options.overrides)
    return write_members(config, Journal(journal_path(config.search_dir)), options.front)


def _override_start(options: argparse.Namespace) -> None:
    """Let --init override the config's start."""
    if isinstance(options.init, Path):
        weights = json.dumps(str(options.init.resolve()))
        options.overrides += ["retrain.init=classification", f"retrain.weights={weights}"]
    elif options.init is not None:
        options.overrides += [f"retrain.init={options.init}", "retrain.weights=null"]


def add_audit(commands: Commands) -> None:
    command = add_step(
        commands,
        "audit",
        _audit,
        "train nets to see how far to trust a search",
        "Train candidates of a search on their own, as `detnas retrain` does, and say how well the search "
        "ranked them, compared with seeds, MACs and parameters. Resumes where it stopped. Writes "
        "RUN_DIR/audit/audit.json.",
        "--nets 12 --hours 2",
    )
    command.usage = "detnas audit -c FILE [--nets N] [--seeds S] [--hours H] …"
    command.add_argument("--nets", type=positive, metavar="N", help="nets to train (default: 30, or all)")
    command.add_argument(
        "--seeds",
        type=positive,
        default=3,
        metavar="S",
        help="seeds for a quarter of them (default: %(default)s)",
    )
    command.add_argument("--hours", type=above_zero, metavar="H", help="fit N and S to this time")
    command.add_argument(
        "--pick", choices=("spread", "uniform"), default="spread", help="how nets are drawn (default: spread)"
    )
    command.add_argument("--init", type=_start, metavar="INIT", help="where they start, as for retrain")
    command.add_argument(
        "--jobs", type=positive, default=1, metavar="K", help="trained in parallel (default: %(default)s)"
    )
    add_fresh(command)
    add_fast_dev_run(command)


def _audit(options: argparse.Namespace) -> None:
    _override_start(options)
    config = config_of(options)
    import_at_once()
    from detnas_nni.audit.result import read_result
    from detnas_nni.audit.session import AuditRequest, audit, with_a_start

    if options.init is None:
        config = with_a_start(config)
    request = AuditRequest(
        nets=options.nets,
        seeds=options.seeds,
        hours=options.hours,
        pick=options.pick,
        jobs=options.jobs,
        fresh=options.fresh,
    )
    path = audit(config, request.cut() if options.fast_dev_run else request, say)
    print("\n".join([str(path), *read_result(path).lines()]))


def _training_config(options: argparse.Namespace) -> Config:
    """The config; starts the processes that it asks for, and returns in each of them."""
    config = config_of(options)
    import_at_once()
    from detnas_nni.training.distributed import start_processes, world

    start_processes(config.hardware, options.arguments)
    if not world().is_main:
        logging.getLogger().setLevel(logging.WARNING)
    return config


def _print_once(text: object) -> None:
    """Print in one of several processes only."""
    from detnas_nni.training.distributed import world

    if world().is_main:
        print(text)
