"""One search: its folder, its journal, its strategy. Both front doors share it and bring an engine."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from nni.nas.evaluator import Evaluator
from nni.nas.execution import ExecutionEngine, SequentialExecutionEngine

from detnas_nni.config import Config
from detnas_nni.cost import Constraint, FeasibleSet, cost_table
from detnas_nni.errors import CheckpointError, EvaluationError, UsageError
from detnas_nni.export import export_best
from detnas_nni.files import write_json
from detnas_nni.search.candidate import CandidateEvaluation
from detnas_nni.search.engine import JournaledEngine
from detnas_nni.search.evaluator import DetNASEvaluator
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.space import candidate_space
from detnas_nni.search.strategies import build_strategy
from detnas_nni.training.runs import supernet_weights
from detnas_nni.training.weights import CLASSIFIER, file_hash, load_weights

_log = logging.getLogger(__name__)

# What the result of a candidate, or the order of candidates, depends on.
_SECTIONS = ("seed", "space", "data", "detector", "evaluation", "search")


class SearchSession:
    """A search's folder, opened and checked.

    A folder that holds results of the same search is gone on with.

    Raises:
        CheckpointError: there is no supernet, it is of another space or detector, or the folder holds a
            search with another config or supernet.
        ConstraintError: no architecture of the space meets the constraint.
        UsageError: the folder holds something else than a search.
    """

    def __init__(self, config: Config, *, fresh: bool = False) -> None:
        self.config = config
        self.folder = config.search_dir
        self.table = cost_table(config.space.name, config.search.constraint.resolution)
        limits = config.search.constraint
        self.feasible = FeasibleSet(self.table, Constraint(limits.max_macs, limits.max_params))
        self.feasible.raise_if_empty()
        checkpoint = supernet_weights(config)
        # Both doors check this: under nnictl the trials would otherwise fail one by one.
        kind = config.detector.name if config.evaluation.task == "detection" else CLASSIFIER
        load_weights(checkpoint).expect_supernet(
            kind=kind, space=config.space.name, options=config.space.options
        )
        self._expect_a_search()
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._claim({"config": config.fingerprint(*_SECTIONS), "supernet": file_hash(checkpoint)})
        self.journal = Journal(journal_path(self.folder))
        self.strategy = build_strategy(config, self.feasible)

    @property
    def _identity(self) -> Path:
        return self.folder / "search.json"

    def run(self, engine: ExecutionEngine, evaluator: Evaluator | None) -> Path:
        """Search to the end on an engine; gives the path of best_architecture.json.

        Raises EvaluationError if no candidate could be evaluated.
        """
        space = self.config.space.name
        journaled = JournaledEngine(engine, self.journal, self.table, space)
        if self.journal.evaluations:
            _log.info("%s: %d candidates are evaluated; going on", self.journal.path, len(self.journal))
        self.strategy(candidate_space(space, evaluator), journaled)
        journaled.wait_models()
        if not self.journal.best():
            first = self.journal.evaluations[0].error if self.journal.evaluations else "none was proposed"
            raise EvaluationError(f"{self.journal.path}: no candidate could be evaluated; the first: {first}")
        return export_best(self.config, self.journal)

    def _expect_a_search(self) -> None:
        """A search named `finetune` or `data` must neither be written into such a folder nor clear it."""
        if self.folder.exists() and not self._identity.exists() and any(self.folder.iterdir()):
            raise UsageError(
                f"{self.folder}: is there and holds no search; give the search another name with search.name"
            )

    def _claim(self, identity: dict[str, str]) -> None:
        path = self._identity
        if path.exists():
            found = json.loads(path.read_text())
            for key, value in identity.items():
                if found.get(key) != value:
                    raise CheckpointError(
                        f"{self.folder}: holds a search with another {key} ({found.get(key)}, now {value}); "
                        "to start over remove the folder (`detnas search --fresh` does), or give this one a "
                        "name of its own with search.name"
                    )
        write_json(path, identity)


def search_in_process(config: Config, *, fresh: bool = False) -> Path:
    """Run the search in this process, without a server; gives the path of best_architecture.json."""
    session = SearchSession(config, fresh=fresh)
    evaluator = DetNASEvaluator(CandidateEvaluation(config))
    return session.run(SequentialExecutionEngine(continue_on_failure=True), evaluator)
