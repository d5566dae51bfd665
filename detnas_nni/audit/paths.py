"""Where an audit is kept."""

from __future__ import annotations

from pathlib import Path

from detnas_nni.config import Config


def audit_dir(config: Config) -> Path:
    """Where the search of a config is audited: `RUN_DIR/audit`, and `audit_NAME` of one with another name."""
    name = config.search.name
    return config.run_dir / ("audit" if name == "search" else f"audit_{name}")


def result_path(config: Config) -> Path:
    """Where the result of a config's audit is."""
    return audit_dir(config) / "audit.json"
