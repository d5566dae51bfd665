"""`detnas`: one subcommand a step. It parses, calls and prints; the work is done elsewhere.

Heavy packages (torch, NNI) are imported by the commands that need them, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni import __version__
from detnas_nni.errors import ArchitectureError, DetNASError, UsageError
from search_spaces import SpaceError

if TYPE_CHECKING:
    from detnas_nni.architecture import Architecture
    from detnas_nni.config import Config

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, 1 (it failed) or 2 (the call or the config is wrong)."""
    options = _parser().parse_args(arguments)
    _set_up_logging()
    try:
        options.run(options)
        sys.stdout.flush()  # here, so that a reader who has left is met below
    except DetNASError as error:
        print(f"detnas: error: {error}", file=sys.stderr)
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
        print(f"detnas: error: {error}", file=sys.stderr)
        return 1
    return 0


def _data_shapes(options: argparse.Namespace) -> None:
    from detnas_nni.data.shapes import generate_shapes

    generate_shapes(options.out, seed=options.seed, overwrite=options.overwrite)
    print(f"{options.out}: images of shapes, in ImageFolder and in COCO form")


def _pretrain(options: argparse.Namespace) -> None:
    from detnas_nni.supernet.pretrain import pretrain

    print(pretrain(_config(options), fresh=options.fresh))


def _finetune(options: argparse.Namespace) -> None:
    from detnas_nni.supernet.finetune import finetune

    print(finetune(_config(options), fresh=options.fresh))


def _search(options: argparse.Namespace) -> None:
    from detnas_nni.search.session import search_in_process

    _print_result(search_in_process(_config(options), fresh=options.fresh))


def _trial(options: argparse.Namespace) -> None:
    from detnas_nni.search.trial import run_trial

    run_trial(_config(options))


def _follow(options: argparse.Namespace) -> None:
    from detnas_nni.search.follow import follow

    follow(options.port, every=options.every, stop=options.stop)


def _export(options: argparse.Namespace) -> None:
    from detnas_nni.export import export_best
    from detnas_nni.search.journal import Journal, journal_path

    config = _config(options)
    journal = Journal(journal_path(config.search_dir))
    _print_result(export_best(config, journal, rank=options.rank, out=options.out))


def _count(options: argparse.Namespace) -> None:
    from detnas_nni.cost import counts

    print(json.dumps(counts(_architecture(options, options.space), options.resolution), indent=2))


def _evaluate(options: argparse.Namespace) -> None:
    config = _config(options)
    architecture = _architecture(options, config.space.name)
    if architecture.space != config.space.name:
        raise UsageError(
            f"{options.arch}: an architecture of the space {architecture.space}, but {options.config} has "
            f"{config.space.name}"
        )
    from detnas_nni.search.candidate import CandidateEvaluation

    result = CandidateEvaluation(config).evaluate(architecture, seed=options.seed)
    print(json.dumps(result.reported(), indent=2))


def _config(options: argparse.Namespace) -> Config:
    from detnas_nni.config_file import load_config

    return load_config(options.config, options.overrides)


def _architecture(options: argparse.Namespace, space: str | None) -> Architecture:
    from detnas_nni.architecture import Architecture, parse_ops

    if options.arch is not None:
        return Architecture.from_json(options.arch)
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
    print(f"{path}\n  ops     {','.join(map(str, best['ops']))}")
    print(f"  {fitness:<7} {best['metrics']['default']:.4f} on the search split")
    print(
        f"  cost    {cost['macs'] / 1e6:.2f}M MACs at {cost['resolution']} px, "
        f"{cost['params'] / 1e6:.3f}M parameters"
    )


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    # NNI repeats every exception that it passes on; the user gets it once, from here.
    for name in ("nni.nas.strategy", "nni.nas.execution", "nni.nas.evaluator"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detnas",
        description="Search a detection backbone with your detector's AP as the guide (DetNAS, on NNI).",
        epilog="The steps of an experiment, in order: pretrain, finetune, search, export. "
        "\n\nexample:\n  detnas pretrain -c experiments/quickstart/detnas.yaml",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"detnas {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    data = commands.add_parser("data", help="make example data")
    kinds = data.add_subparsers(title="kinds", metavar="KIND", required=True)
    command = _command(
        kinds,
        "shapes",
        _data_shapes,
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

    command = _step(
        commands,
        "pretrain",
        _pretrain,
        "train the classification supernet",
        "Step 1. Train the supernet as a classifier on an ImageFolder, one random path a step. An "
        "interrupted training goes on where it stood. Writes RUN_DIR/pretrain/supernet.pt.",
    )
    _add_fresh(command)
    command = _step(
        commands,
        "finetune",
        _finetune,
        "train the detection supernet",
        "Step 2. Train the supernet in the detector, its trunk inherited from step 1. An interrupted "
        "training goes on where it stood. Writes RUN_DIR/finetune/supernet.pt.",
    )
    _add_fresh(command)
    command = _step(
        commands,
        "search",
        _search,
        "search in this process, without a server",
        "Step 3. Search by the config's strategy, each candidate measured with the supernet's weights. "
        "`nnictl create --config experiments/NAME/search.yaml` runs the same search as trials in NNI's "
        "training service, with its web UI. A search that was interrupted goes on from its journal. Writes "
        "RUN_DIR/search/journal.jsonl and best_architecture.json.",
    )
    _add_fresh(command)
    _step(
        commands,
        "trial",
        _trial,
        "evaluate the candidate that NNI hands out",
        "One trial of an nnictl experiment: NNI starts this, as `trialCommand` in search.yaml says.",
    )

    command = _command(
        commands,
        "follow",
        _follow,
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

    command = _step(
        commands,
        "export",
        _export,
        "write the best architecture of a search as JSON",
        "Step 4. Write best_architecture.json from the journal of a search, also while it runs. A search "
        "that ends has written it already.",
    )
    command.add_argument("--rank", type=_positive, default=1, metavar="N", help="the N-th best (default: 1)")
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="default: RUN_DIR/search/best_architecture.json"
    )

    command = _command(
        commands,
        "count",
        _count,
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

    command = _step(
        commands,
        "evaluate",
        _evaluate,
        "measure one architecture with the supernet's weights",
        "Measure one architecture as the search does: inherit, recalibrate BN, AP on the search split. "
        "Prints one JSON object.",
        "--arch runs/quickstart/search/best_architecture.json",
    )
    _add_architecture(command)
    command.add_argument("--seed", type=_natural, help="of the calibration images (default: the search's)")
    return parser


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps prose to the terminal, and keeps an example on one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        prose, example, command = text.partition("example:\n")
        wrapped = super()._fill_text(prose, width, indent)
        return "\n\n".join(part for part in (wrapped, example + command) if part)


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    run: object,
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
    command.set_defaults(run=run)
    return command


def _step(
    commands: argparse._SubParsersAction,
    name: str,
    run: object,
    summary: str,
    description: str,
    example: str = "",
) -> argparse.ArgumentParser:
    """A command that works on an experiment's config."""
    example = f"detnas {name} -c experiments/quickstart/detnas.yaml {example}".rstrip()
    command = _command(commands, name, run, summary, description, example)
    command.add_argument("-c", "--config", required=True, metavar="FILE", help="the experiment's YAML")
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the config, such as search.population=20; may be given again",
    )
    return command


def _add_fresh(command: argparse.ArgumentParser) -> None:
    command.add_argument("--fresh", action="store_true", help="delete what this step has done and start over")


def _add_architecture(command: argparse.ArgumentParser) -> None:
    group = command.add_mutually_exclusive_group(required=True)
    group.add_argument("--ops", metavar="2,1,0,…", help="one candidate's index a block")
    group.add_argument("--arch", type=Path, metavar="FILE", help="an architecture's JSON")


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
