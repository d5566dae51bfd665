"""`detnas audit` from the search's journal to audit.json."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from detnas_nni.architecture import Architecture
from detnas_nni.audit import running
from detnas_nni.audit.figures import figures, verdict
from detnas_nni.audit.folder import AuditFolder, audit_identity, start_of
from detnas_nni.audit.journal import NetJournal, NetTraining, Trained
from detnas_nni.audit.plan import (
    AuditPlan,
    Candidate,
    Pick,
    fit,
    make_plan,
    ranked_candidates,
    seconds,
    what_it_can_show,
)
from detnas_nni.audit.result import AuditResult, Net
from detnas_nni.audit.running import TrainingPlaces, places
from detnas_nni.audit.statistics import LEAST
from detnas_nni.audit.timing import measure
from detnas_nni.config import Config
from detnas_nni.config.run_folder import AUDITED_NETS, NET_ARCHITECTURE, NET_CONFIG, audit_file, audit_folder
from detnas_nni.errors import AuditError
from detnas_nni.search.best import versions
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.util.progress import ProgressBar

_log = logging.getLogger(__name__)

Say = Callable[[str], None]

NETS = 30
"""The default, if the search has that many: without any relation tau is then within ±0.25."""

SEEDS = 3
"""The default, for a quarter of the nets."""

_GIVE_UP = 3  # failures before any success after which the nets are not to blame


@dataclass(frozen=True)
class AuditRequest:
    """What an audit is asked to do.

    Attributes:
        nets: in the sample; `NETS` or as many as there are if None.
        seeds: for the nets that are repeated; 1 repeats none.
        hours: fit both to this time.
        pick: how the nets are drawn.
        jobs: trainings in parallel.
        fresh: discard what the folder holds.
    """

    nets: int | None = None
    seeds: int = SEEDS
    hours: float | None = None
    pick: Pick = "spread"
    jobs: int = 1
    fresh: bool = False

    def cut(self) -> AuditRequest:
        """The same for `--fast-dev-run`: the fewest nets and seeds that exercise all parts."""
        return replace(self, nets=min(self.nets or LEAST, LEAST), seeds=min(self.seeds, 2))


def with_a_start(config: Config) -> Config:
    """The config with a start that its data allows: the supernet if there is no classification data.

    For an audit whose start the user has not chosen: the config's is meant for one net, and most experiments
    on own data have no ImageNet.
    """
    if start_of(config) != "classification" or config.data.classification is not None:
        return config
    _log.info("without data.classification the nets start from the supernet's weights (--init supernet)")
    return config.model_copy(update={"retrain": config.retrain.model_copy(update={"init": "supernet"})})


def audit(config: Config, request: AuditRequest, say: Say = print) -> Path:
    """Train candidates of a search on their own and say how far the search can be trusted.

    Finished trainings are left as they are, interrupted ones are resumed, and nets that failed are tried
    again. Returns the path of the result, audit.json; `read_result` reads it.

    Args:
        config: the search's.
        request: how many nets, and how.
        say: gets progress messages, one line at a time.

    Raises:
        ArchitectureError: a candidate is of another space.
        AuditError: there is nothing to audit, the folder holds another audit, or every training fails.
        CheckpointError: the weights to start from are missing or do not fit.
        ConfigError: there is no test split, or no data to train the classifiers with.
        UsageError: too few nets, too little time, or too few GPUs.
    """
    config.require_detection_test()
    search = Journal(journal_path(config.search_dir))
    candidates = _candidates(config, search)
    nets = request.nets or max(LEAST, min(NETS, len(candidates)))
    wanted = make_plan(candidates, nets, request.seeds, request.pick, config.seed)
    # Two show whether the start is that of a single net, which fits no other.
    trained = [Architecture(config.space.name, net.ops) for net in wanted.sample.trained[:2]]
    folder = AuditFolder(audit_folder(config), audit_identity(config, trained))
    spots = places(config.hardware, request.jobs)
    with folder.claimed(request.fresh):
        work = _Work(config, folder, NetJournal(folder.path / AUDITED_NETS), search, spots, say)
        asked = {
            **{key: getattr(request, key) for key in ("nets", "seeds", "hours", "pick")},
            "evaluations": len(search),
        }
        plan = folder.planned(asked, candidates, config.seed)
        if plan is None:
            plan = work.fitted(wanted, candidates, request.hours)
            folder.save(asked, plan)
        say(plan.what())
        say(what_it_can_show(len(plan.sample.nets)))
        return work.carry_out(plan)


@dataclass(frozen=True)
class _Work:
    """The trainings of one audit, and their results."""

    config: Config
    folder: AuditFolder
    journal: NetJournal
    search: Journal
    spots: TrainingPlaces
    say: Say

    def fitted(self, wanted: AuditPlan, candidates: list[Candidate], hours: float | None) -> AuditPlan:
        """The plan that fits the time."""
        if hours is None:
            return wanted
        self.say("measuring a few steps of a training …")
        first = self._prepare(wanted.trainings[0])
        timing = measure(first / NET_CONFIG, first / NET_ARCHITECTURE)
        cost = {"each": timing.each, "side_by_side": self.spots.at_a_time}
        plan = fit(candidates, wanted, self.journal, **cost, limit=hours * 3600)
        missing, took = len(plan.missing(self.journal)), seconds(plan, self.journal, **cost)
        self.say(
            f"{missing} trainings of {timing.each / 60:.1f} minutes, {self.spots.at_a_time} at a time: about "
            f"{took / 3600:.2f} h of the {hours:g} h (an estimate from {timing.steps} steps of "
            f"{timing.step:.2f} s)"
        )
        return plan

    def carry_out(self, plan: AuditPlan) -> Path:
        """Train what is missing, and write the result; after each training, the result so far."""
        total, missing = len(plan.trainings), plan.missing(self.journal)
        path = audit_file(self.config)
        failures: list[str] = []
        with ProgressBar(total, "audit", "training", done=total - len(missing)) as bar:

            def ended(trained: Trained) -> None:
                self.journal.append(trained)
                bar.write(self._line(plan, trained))
                bar.advance()
                self._result(plan, complete=False).write(path)
                if trained.error is not None:
                    failures.append(trained.error)
                if len(failures) == _GIVE_UP and len(plan.missing(self.journal)) == total:
                    raise AuditError(
                        f"{self.folder.path}: the first {_GIVE_UP} trainings have all failed; the last says: "
                        f"{failures[-1]}. Fix that, then run the same command again"
                    )

            running.train_side_by_side(missing, self.config.space.name, self.spots.all, self._prepare, ended)
        self._result(plan, complete=True).write(path)
        return path

    def _prepare(self, training: NetTraining) -> Path:
        config = running.config_of(self.config, training, self.folder.path, self.spots.threads)
        evaluation = self.search.find(training.ops)
        running.write_files(config, training, evaluation.metrics or {})
        return config.run_dir

    def _line(self, plan: AuditPlan, trained: Trained) -> str:
        rank = next(net.rank for net in plan.sample.trained if net.ops == trained.ops)
        ended = (
            f"failed: {trained.error}" if trained.ap is None else f"{_measure(self.config)} {trained.ap:.4f}"
        )
        return f"search's rank {rank}, seed {trained.seed}: {ended} ({trained.seconds:.0f} s)"

    def _result(self, plan: AuditPlan, *, complete: bool) -> AuditResult:
        config, sample = self.config, plan.sample
        seeds = tuple(range(plan.seed, plan.seed + plan.seeds))
        ended = [self.journal.find(training) for training in plan.trainings]
        found = figures(
            sample.nets,
            sample.first,
            seeds,
            self._ap,
            failed=sum(trained is not None and trained.error is not None for trained in ended),
            chance=plan.seed,
        )
        return AuditResult(
            complete=complete,
            pick=sample.pick,
            how=sample.how(),
            init=start_of(config),
            measure=_measure(config),
            seeds=seeds,
            figures=found,
            verdict=verdict(found, _measure(config)),
            nets=tuple(self._net(net, net in sample.nets, seeds) for net in sample.trained),
            identity=self.folder.identity,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
        )

    def _net(self, net: Candidate, drawn: bool, seeds: tuple[int, ...]) -> Net:
        aps = {str(seed): self._ap(NetTraining(net.ops, seed)) for seed in seeds}
        known = {seed: ap for seed, ap in aps.items() if ap is not None}
        return Net(net.ops, net.rank, net.fitness, net.macs, net.params, drawn, known)

    def _ap(self, training: NetTraining) -> float | None:
        trained = self.journal.find(training)
        return None if trained is None else trained.ap


def _candidates(config: Config, search: Journal) -> list[Candidate]:
    if not search.evaluations:
        state = "has no evaluation yet" if search.path.exists() else "is not there"
        raise AuditError(f"{search.path}: {state}, so there is nothing to audit; run `detnas search` first")
    found = ranked_candidates(search)
    for candidate in found:
        Architecture(config.space.name, candidate.ops)
    return found


def _measure(config: Config) -> str:
    return "AP" if config.evaluation.metric == "coco" else "VOC mAP"
