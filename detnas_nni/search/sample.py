"""Random architectures within the constraint, to be trained one by one: the paper's random baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.cost.limits import feasible_set
from detnas_nni.cost.table import FeasibleSet
from detnas_nni.errors import ConstraintError, UsageError
from detnas_nni.util.seeding import generator
from search_spaces import is_fixed


def sample(config: Config, count: int) -> list[Path]:
    """Draw architectures by the seed, uniform over those within the limits, none twice.

    Writes `RUN_DIR/samples/random_00.json` and on, and gives the paths. Asked for more, it gives the same
    ones first.

    Raises:
        ConstraintError: there are not so many; none is written then.
        LatencyError: the config names a latency table that is missing, damaged or of another space.
        UsageError: the space is one fixed net.
    """
    if is_fixed(config.space.name):
        raise UsageError(
            f"space.name is {config.space.name}, one fixed net, of which there is nothing to draw; "
            f"`detnas retrain --arch search_spaces/published/{config.space.name}.json` trains it"
        )
    feasible = feasible_set(config)
    paths = []
    for number, ops in enumerate(_draw(feasible, count, generator(config.search_seed, "sample"))):
        path = config.run_dir / "samples" / f"random_{number:02d}.json"
        Architecture(config.space.name, ops).save(
            path,
            cost={**feasible.table.cost(ops).to_dict(), "resolution": feasible.table.resolution},
            provenance={"origin": "random", "seed": config.search_seed},
        )
        paths.append(path)
    return paths


def _draw(feasible: FeasibleSet, count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    drawn: dict[tuple[int, ...], None] = {}  # a set that keeps its order
    while len(drawn) < count:
        ops = feasible.random_unseen(rng, drawn.keys())
        if ops is None:
            raise ConstraintError(
                f"{count} random architectures are to be drawn, but {feasible.table.space} has only "
                f"{len(drawn)} with {feasible.constraint}"
            )
        drawn[ops] = None
    return list(drawn)
