"""`detnas doctor`, `reproduce`, `quickstart`: an experiment checked, or run from end to end."""

from __future__ import annotations

import argparse
from pathlib import Path

from detnas_nni.cli.arguments import (
    Commands,
    add_command,
    add_fast_dev_run,
    add_overrides,
    add_strict,
    expect_config,
    port,
    positive,
)
from detnas_nni.errors import UsageError


def add_doctor(commands: Commands) -> None:
    command = add_command(
        commands,
        "doctor",
        _doctor,
        "say what is wrong here, and how to fix it",
        "Check versions, GPUs, ports, memory, disk, NNI, and with -c an experiment's config, data and "
        "folders. Prints each finding and the command that fixes it; status 1 if there is a problem.",
        "detnas doctor -c experiments/quickstart/detnas.yaml",
    )
    command.add_argument("-c", "--config", metavar="FILE", help="an experiment's YAML")
    add_overrides(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    add_strict(command)
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--close-nni", action="store_true", help="make NNI's servers listen on 127.0.0.1 only, from now on"
    )
    group.add_argument("--open-nni", action="store_true", help="undo that")


def _doctor(options: argparse.Namespace) -> int:
    if options.close_nni:
        from detnas_nni.search.nnictl.loopback import close_nni

        print(f"{close_nni()}: NNI's servers in this environment will listen on 127.0.0.1 only")
        return 0
    if options.open_nni:
        from detnas_nni.search.nnictl.loopback import open_nni

        print("NNI's servers will listen on every interface again" if open_nni() else "nothing to undo")
        return 0
    expect_config(options)
    from detnas_nni.doctor import doctor

    overrides = [*options.overrides, *(["data.strict=true"] if options.strict else [])]
    return doctor(options.config, overrides, json=options.json)


def add_quickstart(commands: Commands) -> None:
    command = add_command(
        commands,
        "quickstart",
        _quickstart,
        "run the whole pipeline on generated images, in minutes",
        "Draw images of shapes, train the supernet on them twice, search it under `nnictl create`, and print "
        "the best architecture. Works in the current folder, on a CPU: in experiments/quickstart, which is "
        "created if it is not there, and runs/quickstart. Finished steps are left as they are.",
        "detnas quickstart --port 8080",
    )
    command.add_argument("--port", type=port, metavar="PORT", help="of NNI's web UI (default: a free one)")
    command.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="per training (default: the config's, 1); more are slower on a busy machine",
    )


def _quickstart(options: argparse.Namespace) -> None:
    from detnas_nni.quickstart import quickstart

    quickstart(options.port, options.threads)


def add_reproduce(commands: Commands) -> None:
    command = add_command(
        commands,
        "reproduce",
        _reproduce,
        "run an experiment of the paper, or list them",
        "Run the steps of an experiment in order; finished steps are left as they are. If one of the "
        "paper's is not in the current folder, all of them are written there first. With --list, print the "
        "experiments with the published numbers and, where there are results, ours beside them.",
        "detnas reproduce experiments/imagenet_cls_300m",
    )
    command.add_argument(
        "experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="its folder, or its YAML"
    )
    command.add_argument("--list", action="store_true", help="print the table of experiments")
    command.add_argument(
        "--experiments",
        type=Path,
        metavar="DIR",
        help="the folder of experiments for --list (default: experiments, or the package's own)",
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
