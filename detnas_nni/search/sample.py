"""Random architectures within the constraint, to be trained one by one: the paper's random baseline."""

from __future__ import annotations

from pathlib import Path

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.cost import Constraint, FeasibleSet, cost_table
from detnas_nni.errors import ConstraintError
from detnas_nni.seeding import generator


def sample(config: Config, count: int) -> list[Path]:
    """Draw architectures by the seed, uniform over those within the limits, none twice.

    Writes `RUN_DIR/samples/random_00.json` and on, and gives the paths. Asked for more, it gives the same
    ones first.

    Raises ConstraintError if there are not so many.
    """
    limits = config.search.constraint
    table = cost_table(config.space.name, limits.resolution)
    feasible = FeasibleSet(table, Constraint(limits.max_macs, limits.max_params))
    feasible.raise_if_empty()
    rng = generator(config.search_seed, "sample")
    seen: set[tuple[int, ...]] = set()
    paths = []
    for number in range(count):
        ops = feasible.random_unseen(rng, seen)
        if ops is None:
            raise ConstraintError(
                f"{count} random architectures are to be drawn, but {config.space.name} has only {number} "
                f"with {feasible.constraint}"
            )
        seen.add(ops)
        cost = table.cost(ops)
        path = config.run_dir / "samples" / f"random_{number:02d}.json"
        Architecture(config.space.name, ops).save(
            path,
            cost={"macs": cost.macs, "params": cost.params, "resolution": limits.resolution},
            provenance={"origin": "random", "seed": config.search_seed},
        )
        paths.append(path)
    return paths
