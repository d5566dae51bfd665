"""What makes two searches the same one: their results may stand in one journal."""

from __future__ import annotations

from typing import Any

from detnas_nni.config import Config
from detnas_nni.cost.limits import latency_table

# What the result of a candidate depends on.
_SECTIONS = ("seed", "space", "data", "detector", "evaluation")

# A search may be prolonged, and be more or less patient with failures: neither changes what was evaluated,
# nor which candidate comes after which.
_OPEN = {"generations", "retries", "max_failed_share", "max_trial_seconds"}

_LATENCY = ("latency_table", "max_latency_ms")


def search_identity(config: Config, supernet: str) -> dict[str, str]:
    """Hashes of the config, as far as a search depends on it, and of the supernet's file (SHA-256).

    A latency table counts by what it says, wherever it lies. Raises LatencyError if its file holds none.
    """
    search = config.search.model_dump(mode="json", exclude=_OPEN)
    search["constraint"] = _limits(config, search["constraint"])
    return {"config": config.fingerprint(*_SECTIONS, search=search), "supernet": supernet}


def _limits(config: Config, constraint: dict[str, Any]) -> dict[str, Any]:
    """Without a table nothing is said of one, so that older searches are still the same."""
    kept = {key: value for key, value in constraint.items() if key not in _LATENCY}
    table = latency_table(config)
    if table is not None:
        kept["latency"] = {"table": table.fingerprint, "max_ms": constraint["max_latency_ms"]}
    return kept
