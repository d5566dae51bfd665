"""`detnas search`, `trial`, `follow`, `stop`, `report`, `sample`: a search and its results."""

from __future__ import annotations

import argparse
from pathlib import Path

from detnas_nni.cli.arguments import (
    Commands,
    above_zero,
    add_command,
    add_fast_dev_run,
    add_fresh,
    add_step,
    config_of,
    port,
    positive,
    print_result,
)
from detnas_nni.util.imports import import_at_once


def add_search(commands: Commands) -> None:
    command = add_step(
        commands,
        "search",
        _search,
        "search in this process, without a server",
        "Step 3. Search with the config's strategy; each candidate is measured with the supernet's weights. "
        "`nnictl create --config experiments/NAME/search.yaml` runs the same search as trials in NNI's "
        "training service, with its web UI. An interrupted search resumes from its journal. Writes "
        "RUN_DIR/search/journal.jsonl, best_architecture.json and front.json.",
    )
    add_fresh(command)
    add_fast_dev_run(command)


def _search(options: argparse.Namespace) -> None:
    config = config_of(options)
    import_at_once()
    import nni

    # NNI's NAS packages otherwise import pytorch-lightning, and that matplotlib, which a search does not use.
    nni.set_default_framework("none")
    from detnas_nni.search.session import search_in_process

    print_result(search_in_process(config, fresh=options.fresh))


def add_trial(commands: Commands) -> None:
    add_step(
        commands,
        "trial",
        _trial,
        "evaluate the candidate that NNI hands out",
        "One trial of an nnictl experiment: NNI starts this, as told by `trialCommand` in search.yaml.",
    )


def _trial(options: argparse.Namespace) -> None:
    config = config_of(options)
    import_at_once()
    from detnas_nni.search.nnictl.trial import run_trial

    run_trial(config)


def add_follow(commands: Commands) -> None:
    command = add_command(
        commands,
        "follow",
        _follow,
        "watch an nnictl experiment until it ends",
        "Print the trials of a running NNI experiment as they end; exits when the search has ended, with "
        "status 1 if the experiment failed.",
        "detnas follow --port 8080",
    )
    command.add_argument("--port", type=port, default=8080, help="the web UI's port (default: %(default)s)")
    command.add_argument(
        "--every",
        type=above_zero,
        default=2.0,
        metavar="SECONDS",
        help="between two checks (default: %(default)s)",
    )
    command.add_argument("--stop", action="store_true", help="stop the experiment's server at the end")


def _follow(options: argparse.Namespace) -> None:
    from detnas_nni.search.nnictl.follow import follow

    follow(options.port, every=options.every, stop=options.stop)


def add_stop(commands: Commands) -> None:
    add_step(
        commands,
        "stop",
        _stop,
        "end a search that runs in this experiment's folder",
        "End the search in the config's folder with all its processes: NNI's server and trials, or the "
        "search in process. Results are kept; the search resumes when it is started again.",
    )


def _stop(options: argparse.Namespace) -> None:
    from detnas_nni.search.nnictl.stop import stop

    ended = stop(config_of(options))
    print("\n".join(f"ended {what}" for what in ended) or "nothing runs in this folder")


def add_report(commands: Commands) -> None:
    command = add_step(
        commands,
        "report",
        _report,
        "show what a search has found, as a page with figures",
        "Show a search, running or ended: AP over evaluations and over cost, the best architectures, "
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


def _report(options: argparse.Namespace) -> None:
    config = config_of(options)
    from detnas_nni.report import write_report

    print(write_report(config, name=options.config, compare=options.compare, out=options.out))


def add_sample(commands: Commands) -> None:
    command = add_step(
        commands,
        "sample",
        _sample,
        "draw random architectures",
        "Draw random architectures within the constraint: the paper's random baseline, to be retrained. "
        "Writes RUN_DIR/samples/random_00.json and so on.",
        "--count 5",
    )
    command.add_argument("--count", type=positive, required=True, metavar="N", help="how many")
    add_fast_dev_run(command)


def _sample(options: argparse.Namespace) -> None:
    from detnas_nni.search.best import sample

    for path in sample(config_of(options), options.count):
        print(path)
