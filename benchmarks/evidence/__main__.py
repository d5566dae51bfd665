"""The study of docs/evidence.md.

    python -m benchmarks.evidence plan
    python -m benchmarks.evidence run --jobs 2
    python -m benchmarks.evidence page

`plan` lists the runs, `run` does the missing ones, `page` writes the results. Raw numbers go to
docs/evidence/*.jsonl as each run ends; trained weights stay under runs/evidence/. `run` can be stopped at any
time and resumes where it stopped. A supernet whose weights are gone is trained again and has to come out with
the same weights, as it does on one kind of processor with one version of torch; elsewhere, begin with
`--anew`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from detnas_nni.cli.arguments import above_zero, positive
from detnas_nni.errors import DetNASError

_STUDY = Path("experiments/evidence/study.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say and return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.action(options)
    except DetNASError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="do all runs that are missing")
    plan = commands.add_parser("plan", help="list the runs, in their order")
    for command in (run, plan):
        command.add_argument("--only", default="", choices=list("abcdef"), metavar="QUESTION", help="a to f")
        command.add_argument("--part", action="append", default=[], help="of the study; all if not given")
    run.add_argument("--jobs", type=positive, default=1, metavar="K", help="runs side by side (default: 1)")
    run.add_argument("--minutes", type=above_zero, metavar="M", help="start no further run after so many")
    run.add_argument(
        "--anew",
        action="store_true",
        help="where a supernet's weights are gone, remove the lines measured with them, and run these again",
    )
    one = commands.add_parser("one", help="do a single run; `run` calls this in a separate process")
    one.add_argument("key", help="as `plan` lists it")
    page = commands.add_parser("page", help="write docs/evidence.md, and its figures, from the raw lines")
    page.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    page.add_argument("--folder", type=Path, default=Path("docs"), help="where the page is (default: docs)")
    for command, action in ((run, _run), (plan, _plan), (one, _one), (page, _page)):
        command.add_argument("--study", type=Path, default=_STUDY, metavar="FILE")
        command.set_defaults(action=action)
    return parser


def _run(options: argparse.Namespace) -> int:
    from benchmarks.evidence.plan import Choice
    from benchmarks.evidence.runner import Runner

    choice = Choice(options.only, tuple(options.part))
    failures = Runner(options.study, choice, options.jobs, options.minutes, options.anew).run()
    return 1 if failures else 0


def _plan(options: argparse.Namespace) -> int:
    from benchmarks.evidence.lines import Lines
    from benchmarks.evidence.plan import Choice
    from benchmarks.evidence.settings import read_study

    study = read_study(options.study)
    found = Lines(study.lines).read_all()
    ahead = 0.0
    for run in Choice(options.only, tuple(options.part)).of(study, found):
        is_done = run.is_done(found)
        ahead += 0 if is_done else run.minutes
        print(f"{'done' if is_done else '    '}  {run.questions:<6}{run.minutes:6.1f} min  {run.key}")
    print(f"{ahead:.0f} minutes of one core are left; winners of searches join when these have ended")
    return 0


def _one(options: argparse.Namespace) -> int:
    from benchmarks.evidence.execute import execute
    from benchmarks.evidence.runner import find
    from benchmarks.evidence.settings import read_study

    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    study = read_study(options.study)
    execute(study, find(study, options.key))
    return 0


def _page(options: argparse.Namespace) -> int:
    from benchmarks.evidence.page import write
    from benchmarks.evidence.settings import read_study

    return write(read_study(options.study), options.folder, check=options.check)


if __name__ == "__main__":
    status = main()
    # Loader processes of a training that was interrupted must not be waited for.
    sys.stdout.flush()
    os._exit(status)
