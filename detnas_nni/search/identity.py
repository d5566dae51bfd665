"""What makes two searches the same one: their results may stand in one journal."""

from __future__ import annotations

from detnas_nni.config import Config

# What the result of a candidate depends on.
_SECTIONS = ("seed", "space", "data", "detector", "evaluation")

# A search may be prolonged, and be more or less patient with failures: neither changes what was evaluated,
# nor which candidate comes after which.
_OPEN = {"generations", "retries", "max_failed_share", "max_trial_seconds"}


def search_identity(config: Config, supernet: str) -> dict[str, str]:
    """Hashes of the config, as far as a search depends on it, and of the supernet's file (SHA-256)."""
    search = config.search.model_dump(mode="json", exclude=_OPEN)
    return {"config": config.fingerprint(*_SECTIONS, search=search), "supernet": supernet}
