"""What the tests of reports share, beside the root's fixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detnas_nni.config import Config
from detnas_nni.report.searches import ReportedSearch, of_config
from tests.report.journals import write_journal


@pytest.fixture
def searched(
    make_config: Callable[..., Config], tmp_path: Path
) -> Callable[..., tuple[Config, ReportedSearch]]:
    """searched(count, …): the config and the search of a journal that `write_journal` writes."""

    def make(count: int, *, config: dict | None = None, **journal) -> tuple[Config, ReportedSearch]:
        made = make_config(tmp_path / "run", **(config or {}))
        write_journal(made.search_dir, count, space=made.space.name, **journal)
        return made, of_config(made, "detnas.yaml")

    return make
