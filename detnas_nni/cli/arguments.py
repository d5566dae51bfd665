"""What the groups of commands share: adding a command to the parser, and common arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from detnas_nni.errors import UsageError

if TYPE_CHECKING:
    from detnas_nni.config import Config

Commands: TypeAlias = argparse._SubParsersAction
"""What commands are added to."""

Action: TypeAlias = Callable[[argparse.Namespace], int | None]
"""Runs a command with its arguments and returns the exit status; None means 0."""


class HelpFormatter(argparse.HelpFormatter):
    """Wraps prose to the terminal's width, and keeps an example on one line so that it can be copied."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # argparse forgets their indentation, and so splits the longest command over two lines.
            self._action_max_length = max(self._action_max_length, 4 + max(map(len, action.choices)))

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        # The commands have a title above them, and need no "COMMAND" as well.
        return text.split("\n", 1)[1] if isinstance(action, argparse._SubParsersAction) else text

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        prose, example, command = text.partition("example:\n")
        wrapped = super()._fill_text(prose, width, indent)
        return "\n\n".join(part for part in (wrapped, example + command) if part)


def add_command(
    commands: Commands,
    name: str,
    action: Action,
    summary: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=HelpFormatter,
    )
    command.set_defaults(action=action)
    return command


def add_step(
    commands: Commands,
    name: str,
    action: Action,
    summary: str,
    description: str,
    example: str = "",
) -> argparse.ArgumentParser:
    """A command that works on an experiment's config."""
    example = f"detnas {name} -c experiments/quickstart/detnas.yaml {example}".rstrip()
    command = add_command(commands, name, action, summary, description, example)
    command.add_argument("-c", "--config", required=True, metavar="FILE", help="the experiment's YAML")
    add_overrides(command)
    return command


def add_strict(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--strict", action="store_true", help="make it an error to correct anything in annotations"
    )


def add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the config, such as search.population=20; may be repeated",
    )


def add_fresh(command: argparse.ArgumentParser) -> None:
    command.add_argument("--fresh", action="store_true", help="delete this step's results and start over")


def add_fast_dev_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--fast-dev-run",
        action="store_true",
        help="will it start? Two iterations on a handful of the configured images, in RUN_DIR/fast-dev-run",
    )


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a whole number from 1 to 65535")
    return int(text)


def expect_config(options: argparse.Namespace) -> None:
    """UsageError if a command that can do without -c has to change a config that it is not given."""
    for option, given in (("--set", options.overrides), ("--strict", getattr(options, "strict", False))):
        if given and options.config is None:
            raise UsageError(f"{option} changes a config, so it needs -c")


def config_of(options: argparse.Namespace) -> Config:
    from detnas_nni.config.reading import load_config

    config = load_config(options.config, options.overrides)
    if getattr(options, "fast_dev_run", False):
        from detnas_nni.config.fast_dev_run import fast_dev_run

        options.fresh = True
        from detnas_nni.models.hardware import uses_gpu

        return fast_dev_run(config, on_gpu=uses_gpu(config.hardware))
    return config


def say(line: str) -> None:
    """Print a line of a command's progress, at once."""
    print(line, flush=True)


def print_result(path: Path) -> None:
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
