"""`detnas`: one subcommand per step. It parses, calls and prints; the work is done elsewhere.

For each command, `add_NAME` defines its arguments and `_NAME` below it runs it. Heavy packages (torch, NNI)
are imported by the commands that need them, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence

from detnas_nni import __version__
from detnas_nni.cli import data, experiments, measuring, nets, searches, trainings
from detnas_nni.cli.arguments import HelpFormatter
from detnas_nni.errors import DetNASError, UsageError
from detnas_nni.util.interrupts import interrupts_come_again
from search_spaces import SpaceError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 1 (it failed) or 2 (the call or the config is wrong)."""
    options = parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    _set_up_logging()
    status = None
    try:
        with interrupts_come_again():
            status = options.action(options)
        sys.stdout.flush()  # here, so that a closed pipe is handled below
    except DetNASError as error:
        print(f"detnas: error: {error}{_advice(options, error)}", file=sys.stderr)
        return error.exit_status
    except SpaceError as error:
        print(f"detnas: error: {error}", file=sys.stderr)
        return UsageError.exit_status
    except KeyboardInterrupt:
        print("detnas: interrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe. Python would complain at exit when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a folder that may not be written to
        again = "; make room, then run the same command again: it resumes" if error.errno in _FULL else ""
        print(f"detnas: error: {error}{again}", file=sys.stderr)
        return 1
    return status or 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands and their arguments."""
    detnas = argparse.ArgumentParser(
        prog="detnas",
        description="Search for a backbone guided by your detector's AP (DetNAS, on NNI).",
        epilog="The steps: init, pretrain, finetune, search, retrain, report, export. "
        "\n\nexample:\n  detnas pretrain -c experiments/quickstart/detnas.yaml",
        formatter_class=HelpFormatter,
    )
    detnas.add_argument("--version", action="version", version=f"detnas {__version__}")
    commands = detnas.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return detnas


# In the order in which `detnas --help` lists them.
_COMMANDS = (
    experiments.add_quickstart,
    data.add_init,
    data.add_data,
    trainings.add_pretrain,
    trainings.add_finetune,
    searches.add_search,
    searches.add_trial,
    searches.add_follow,
    searches.add_stop,
    nets.add_export,
    searches.add_report,
    searches.add_sample,
    trainings.add_retrain,
    trainings.add_audit,
    nets.add_predict,
    nets.add_import_reference,
    experiments.add_reproduce,
    experiments.add_doctor,
    measuring.add_count,
    measuring.add_latency,
    measuring.add_evaluate,
)


def _advice(options: argparse.Namespace, error: DetNASError) -> str:
    if not getattr(options, "fast_dev_run", False):
        return ""
    from detnas_nni.config.fast_dev_run import advice

    return advice(error)


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    # NNI also logs every exception that it passes on; the user sees it once, from here.
    for name in ("nni.nas.strategy", "nni.nas.execution", "nni.nas.evaluator"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
