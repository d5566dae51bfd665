"""`detnas count`, `latency`, `evaluate`: the cost, latency or AP of an architecture or a net."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from detnas_nni.cli.arguments import (
    Commands,
    add_command,
    add_fast_dev_run,
    add_overrides,
    add_step,
    config_of,
    expect_config,
    natural,
    positive,
)
from detnas_nni.errors import ArchitectureError, UsageError
from detnas_nni.util.imports import import_at_once

if TYPE_CHECKING:
    from detnas_nni.architecture import Architecture


def add_count(commands: Commands) -> None:
    command = add_command(
        commands,
        "count",
        _count,
        "count an architecture's MACs and parameters",
        "Print MACs and parameters as one JSON object, for the backbone (stem and blocks) and for the "
        "classifier (with last convolution and 1000-way layer). MACs exclude BN, bias and activations.",
        "detnas count --space small --ops 2,1,2,0,2,1,1,2,3,3,1,3,0,0,3,1,3,1,3,2",
    )
    command.add_argument("--space", metavar="NAME", help="the space of --ops: tiny, small, large, 3.8g, …")
    _add_architecture(command)
    command.add_argument("--resolution", type=positive, default=224, help="image side, pixels (default: 224)")
    command.add_argument(
        "--latency-table", type=Path, metavar="FILE", help="also print the latency, from this table"
    )


def _count(options: argparse.Namespace) -> None:
    from detnas_nni.cost.table import counts

    architecture, latency = _architecture(options, options.space, "--space is"), None
    if options.latency_table is not None:
        from detnas_nni.cost.latency_table import read_latency_table

        latency = read_latency_table(options.latency_table, space=architecture.space)
    print(json.dumps(counts(architecture, options.resolution, latency), indent=2))


def add_latency(commands: Commands) -> None:
    command = add_command(
        commands,
        "latency",
        _latency,
        "measure how long each candidate of each block takes here",
        "Measure a table that predicts any architecture's latency on this device, and say how well it does. "
        "Writes search.constraint.latency_table, or RUN_DIR/latency.json.",
        "detnas latency -c experiments/quickstart/detnas.yaml --threads 1",
    )
    group = command.add_mutually_exclusive_group(required=True)
    group.add_argument("-c", "--config", metavar="FILE", help="an experiment's YAML")
    group.add_argument("--space", metavar="NAME", help="or a space: tiny, small, large, 3.8g, …")
    add_overrides(command)
    command.add_argument("--resolution", type=positive, metavar="PIXELS", help="image side")
    command.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="images per pass (default: 1)"
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda"))
    command.add_argument("--threads", type=positive, metavar="N", help="on a CPU")
    command.add_argument(
        "--runtime",
        choices=("torch", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"),
        metavar="NAME",
        help="torch, onnxruntime, onnxruntime-cuda or -tensorrt (default: the config's, or torch)",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="the file to write")
    command.add_argument(
        "--check",
        type=natural,
        default=30,
        metavar="N",
        help="nets to check predictions on (default: %(default)s)",
    )
    command.add_argument(
        "--rounds", type=positive, default=200, metavar="N", help="of measurement (default: %(default)s)"
    )


def _latency(options: argparse.Namespace) -> None:
    expect_config(options)
    config = None if options.config is None else config_of(options)
    import_at_once()
    from detnas_nni.cost.latency import Order, summary

    order = Order.of_space(options.space, options.resolution) if config is None else Order.of_config(config)
    order = order.changed(
        resolution=options.resolution,
        device=options.device,
        threads=options.threads,
        out=options.out,
        runtime=options.runtime,
    )
    table = order.measure(batch_size=options.batch, rounds=options.rounds, check=options.check)
    print(summary(table, order.out))


def add_evaluate(commands: Commands) -> None:
    command = add_step(
        commands,
        "evaluate",
        _evaluate,
        "measure a candidate, or a net trained on its own",
        "Measure one architecture as the search does: inherit weights, recalibrate BN, AP on the search "
        "split. If --weights is a net trained on its own, measure it as it is. Prints one JSON object.",
        "--arch runs/quickstart/search/best_architecture.json",
    )
    _add_architecture(command, required=False)
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="of another supernet, or of a single net"
    )
    command.add_argument("--split", choices=("search", "test"), help="of a single net (default: test)")
    command.add_argument("--seed", type=natural, help="of the calibration images (default: the search's)")
    add_fast_dev_run(command)


def _evaluate(options: argparse.Namespace) -> None:
    config = config_of(options)
    architecture = None
    if options.arch is not None or options.ops is not None:
        architecture = _architecture(options, config.space.name, f"{options.config} has")
    import_at_once()
    from detnas_nni.evaluation.candidate import CandidateEvaluation, is_single_net, measure_weights

    if options.weights is not None and is_single_net(options.weights):
        metrics = measure_weights(config, options.weights, options.split or "test", architecture)
    elif architecture is None:
        raise UsageError("weights of a supernet need --arch or --ops, the candidate to measure")
    elif options.split == "test":
        raise UsageError(
            "--split test is for a net that was trained on its own: a supernet's candidates are measured on "
            "the search split only, and the test split stays unseen"
        )
    else:
        evaluation = CandidateEvaluation(config, options.weights)
        metrics = evaluation.evaluate(architecture, seed=options.seed).reported()
    print(json.dumps(metrics, indent=2))


def _add_architecture(command: argparse.ArgumentParser, required: bool = True) -> None:
    group = command.add_mutually_exclusive_group(required=required)
    group.add_argument("--ops", metavar="2,1,0,…", help="one candidate index per block")
    group.add_argument("--arch", type=Path, metavar="FILE", help="an architecture's JSON")


def _architecture(options: argparse.Namespace, space: str | None, said: str) -> Architecture:
    """What --arch or --ops names; `said` is who says that it has to be of the space, for the error."""
    from detnas_nni.architecture import Architecture, parse_ops

    if options.arch is not None:
        architecture = Architecture.from_json(options.arch, trusted=[] if space is None else [space])
        if space not in (None, architecture.space):
            raise UsageError(
                f"{options.arch}: an architecture of the space {architecture.space}, but {said} {space}"
            )
        return architecture
    if space is None:
        raise UsageError("--ops needs --space, the space that they belong to")
    try:
        return Architecture.from_ops(space, parse_ops(options.ops))
    except ArchitectureError as error:
        raise UsageError(f"--ops {options.ops}: {error}") from None
