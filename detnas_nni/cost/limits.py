"""What candidates cost and which of them may be proposed, as a config's `search.constraint` says."""

from __future__ import annotations

from detnas_nni.config import Config
from detnas_nni.cost.latency_table import LatencyTable, read_latency_table
from detnas_nni.cost.table import Constraint, CostTable, FeasibleSet, cost_table


def candidate_costs(config: Config) -> CostTable:
    """MACs and parameters of the space, and latencies if the config names a table of them.

    Raises LatencyError if that is missing, damaged, or of another space or other options.
    """
    table = cost_table(config.space.name, config.search.constraint.resolution)
    latency = latency_table(config)
    return table if latency is None else table.with_latency(latency)


def feasible_set(config: Config) -> FeasibleSet:
    """The architectures within the limits.

    Raises ConstraintError if there is none, and LatencyError as `candidate_costs`.
    """
    limits = config.search.constraint
    constraint = Constraint(limits.max_macs, limits.max_params, limits.max_latency_ms)
    feasible = FeasibleSet(candidate_costs(config), constraint)
    feasible.raise_if_empty()
    return feasible


def latency_table(config: Config) -> LatencyTable | None:
    """The table that the config names, if it does. Raises LatencyError as `candidate_costs`."""
    path = config.search.constraint.latency_table
    if path is None:
        return None
    return read_latency_table(path, space=config.space.name, options=config.space.options)
