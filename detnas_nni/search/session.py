"""One search: its folder, its journal, its strategy. Both front doors use it, each with its own engine."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nni.nas.evaluator import Evaluator
from nni.nas.execution import ExecutionEngine, SequentialExecutionEngine

from detnas_nni.config import Config
from detnas_nni.config.run_folder import DECODED, SEARCH
from detnas_nni.cost.limits import feasible_set
from detnas_nni.errors import CheckpointError, DetNASError, EvaluationError, UsageError
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.search.best import export_best
from detnas_nni.search.engine import JournaledEngine
from detnas_nni.search.evaluator import DetNASEvaluator, Race
from detnas_nni.search.front import export_front
from detnas_nni.search.journal import Journal, journal_path, recorded_identity, search_identity
from detnas_nni.search.lock import Owner, SearchLock
from detnas_nni.search.outcomes import FailurePolicy, OutcomeFiles
from detnas_nni.search.space import candidate_space
from detnas_nni.search.strategies import build_strategy
from detnas_nni.training.runs import supernet_weights
from detnas_nni.training.weights import CLASSIFIER, file_hash, load_weights
from detnas_nni.util.files import write_json
from detnas_nni.util.progress import ProgressBar
from search_spaces import is_fixed

_log = logging.getLogger(__name__)


class SearchStoppedError(DetNASError):
    """A search was stopped before its end; started again, it resumes."""


class SearchSession:
    """A search's folder, opened, checked, and locked for this process until `close`; also a context manager.

    If the folder holds results of the same search, the search resumes from them.

    Args:
        config: the experiment.
        fresh: clear the folder first.
        owner: who searches; this process, by `detnas search`, if None.

    Raises:
        ConfigError: a user's own strategy cannot be imported.
        CheckpointError: there is no supernet, it is of another space or detector, or the folder holds a
            search with another config or supernet.
        ConstraintError: no architecture of the space meets the constraint.
        JournalError: the journal is damaged.
        LatencyError: the config names a latency table that is missing, damaged or of another space.
        SearchRunsError: another process searches in the folder.
        UsageError: the space is a fixed net, or the folder holds something other than a search.
    """

    def __init__(self, config: Config, *, fresh: bool = False, owner: Owner | None = None) -> None:
        if is_fixed(config.space.name):
            raise UsageError(
                f"space.name is {config.space.name}, a fixed net, so there is nothing to search; "
                "`detnas retrain` trains it"
            )
        self.config = config
        self.folder = config.search_dir
        self.feasible = feasible_set(config)
        self.table = self.feasible.table
        self.strategy = build_strategy(config, self.feasible)
        checkpoint = supernet_weights(config)
        # Both doors check this: under nnictl the trials would otherwise fail one by one.
        kind = config.detector.name if config.evaluation.task == "detection" else CLASSIFIER
        load_weights(checkpoint).expect_supernet(
            kind=kind, space=config.space.name, options=config.space.options
        )
        self._expect_a_search()
        self.identity = search_identity(config, file_hash(checkpoint))
        self.lock = SearchLock(self.folder, owner or Owner.here("detnas search"))
        try:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._claim()
            self.journal = Journal(journal_path(self.folder))
            self.outcomes = OutcomeFiles(self.folder, self.identity)
        except BaseException:
            self.lock.release()
            raise

    def __enter__(self) -> SearchSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes search in the folder."""
        self.lock.release()

    @property
    def _identity(self) -> Path:
        return self.folder / SEARCH

    def run(self, engine: ExecutionEngine, evaluator: Evaluator | None) -> Path:
        """Search to the end on an engine and return the path of best_architecture.json.

        Raises:
            EvaluationError: too many candidates failed, or all, or one hit an error that all would hit.
            JournalError: the journal cannot be written.
            SearchStoppedError: the engine was shut down before the strategy had ended.
        """
        total, done = self.config.search.evaluations, len(self.journal)
        with ProgressBar(max(total, done), self.config.search.name, "candidate", done=done) as bar:
            return self._run(engine, evaluator, bar)

    def _run(self, engine: ExecutionEngine, evaluator: Evaluator | None, bar: ProgressBar) -> Path:
        policy = FailurePolicy.of(self.config)
        journaled = JournaledEngine(
            engine,
            self.journal,
            self.table,
            self.config.space.name,
            policy=policy,
            outcome=self.outcomes.outcome,
            written=lambda: self._show(bar),
            feasible=self.feasible,
        )
        if self.journal.evaluations:
            _log.info("%s: resuming after %d evaluated candidates", self.journal.path, len(self.journal))
        self.strategy(candidate_space(self.config.space.name, evaluator), journaled)
        journaled.wait_models()
        if journaled.error is not None:
            raise journaled.error
        if not journaled.budget_available():
            raise SearchStoppedError(f"{self.journal.path}: stopped after {len(self.journal)} evaluations")
        objection = policy.objection(self.journal.errors, len(self.journal), ended=True)
        if objection is not None:
            raise EvaluationError(f"{self.journal.path}: {objection}")
        if not self.journal.best():
            first = self.journal.evaluations[0].error if self.journal.evaluations else "none was proposed"
            raise EvaluationError(f"{self.journal.path}: no candidate could be evaluated; the first: {first}")
        path = export_best(self.config, self.journal)
        export_front(self.config, self.journal)
        shutil.rmtree(self.folder / DECODED, ignore_errors=True)
        self.lock.update(ended=True)
        return path

    def _show(self, bar: ProgressBar) -> None:
        best = self.journal.best()
        bar.to(len(self.journal), **({"best": f"{best[0].fitness:.4f}"} if best else {}))

    def _expect_a_search(self) -> None:
        """A search named `finetune` or `data` must neither be written into such a folder nor clear it."""
        if self.folder.exists() and not self._identity.exists() and any(self.folder.iterdir()):
            raise UsageError(
                f"{self.folder}: exists but holds no search; give the search another name with search.name"
            )

    def _claim(self) -> None:
        if self._identity.exists():
            found = recorded_identity(self.folder)
            for key, value in self.identity.items():
                if found.get(key) != value:
                    raise CheckpointError(
                        f"{self.folder}: holds a search with another {key} ({found.get(key)}, now {value}); "
                        "to start over remove the folder (`detnas search --fresh` does), or give this one "
                        "another name with search.name"
                    )
        write_json(self._identity, self.identity)
        self.lock.update(evaluations=self.config.search.evaluations)


def search_in_process(config: Config, *, fresh: bool = False) -> Path:
    """Run the search in this process, without a server, and return the path of best_architecture.json.

    SIGTERM interrupts it as Ctrl-C does, so that its loader processes end with it.
    """
    with SearchSession(config, fresh=fresh) as session, _sigterm_interrupts():
        evaluation = CandidateEvaluation(config, decoded=session.folder / DECODED)
        if evaluation.supernet_hash != session.identity["supernet"]:
            raise CheckpointError(f"{evaluation.supernet.path}: was replaced while the search started")
        race = Race(config.search, session.journal.evaluations)
        evaluator = DetNASEvaluator(evaluation, race, config.search.max_trial_seconds)
        return session.run(SequentialExecutionEngine(continue_on_failure=True), evaluator)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals only in its main thread
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
