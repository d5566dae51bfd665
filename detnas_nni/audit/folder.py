"""The folder of an audit: which audit it belongs to, and its plan.

Audits with the same identity are the same audit: their nets may share one folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detnas_nni.architecture import Architecture
from detnas_nni.audit.plan import AuditPlan, Candidate, Sample
from detnas_nni.config import Config
from detnas_nni.config.run_folder import AUDIT_IDENTITY, AUDIT_PLAN
from detnas_nni.errors import AuditError
from detnas_nni.finished.retrain import OF_SUPERNETS, check_start
from detnas_nni.search.journal import recorded_identity
from detnas_nni.training.weights import file_hash
from detnas_nni.util.files import is_free, write_json
from detnas_nni.util.lock import FolderLock


class AuditFolder:
    """A folder that belongs to one audit, and to this process alone while `claimed` lasts.

    Args:
        path: the folder; it need not exist yet.
        identity: what the audit depends on.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self.identity = dict(identity)
        self._owner, self._plan = path / AUDIT_IDENTITY, path / AUDIT_PLAN

    @contextmanager
    def claimed(self, fresh: bool) -> Iterator[None]:
        """Hold the folder.

        Args:
            fresh: clear it first.

        Raises:
            AuditError: another process audits in it, or it holds an audit of something else, or no audit.
        """
        lock = FolderLock(self.path)
        try:
            if not lock.acquire():
                raise AuditError(
                    f"{self.path}: another process audits here, and two would train the same nets; wait "
                    "until it ends"
                )
            if not is_free(self.path) and not self._owner.exists():
                raise AuditError(f"{self.path}: exists, but is not an audit's folder; move it away")
            if fresh:
                shutil.rmtree(self.path, ignore_errors=True)
            self._expect()
            write_json(self._owner, self.identity)
            yield
        finally:
            lock.release()

    def planned(
        self, request: Mapping[str, Any], candidates: Sequence[Candidate], seed: int
    ) -> AuditPlan | None:
        """The plan that was made for the same request; None if there is none.

        So an interrupted audit resumes with the same nets, although less time is left then.
        """
        saved = _read(self._plan, ("request", "pick", "nets", "seeds"))
        if saved is None or saved["request"] != dict(request):
            return None
        by_ops = {candidate.ops: candidate for candidate in candidates}
        nets = [by_ops.get(tuple(ops)) for ops in saved["nets"]]
        if None in nets:
            return None
        sample = Sample(saved["pick"], tuple(nets), candidates[0], len(candidates))
        return AuditPlan(sample, saved["seeds"], seed)

    def save(self, request: Mapping[str, Any], plan: AuditPlan) -> None:
        """Keep a plan, for a later call with the same request."""
        values = {
            "request": dict(request),
            "pick": plan.sample.pick,
            "nets": [list(net.ops) for net in plan.sample.nets],
            "seeds": plan.seeds,
        }
        write_json(self._plan, values)

    def _expect(self) -> None:
        saved = _read(self._owner, self.identity)
        if saved is None:
            return
        names = {"training": "config", "start": "start", "search": "search", "supernet": "supernet"}
        others = [f"another {names[key]}" for key, value in self.identity.items() if saved[key] != value]
        if others:
            raise AuditError(
                f"{self.path}: holds an audit with {' and '.join(others)}; continue with the old one, pass "
                "--fresh to start over, or choose another run_dir"
            )


def _read(path: Path, keys: Iterable[str]) -> dict[str, Any] | None:
    """What a file in the folder holds; None if it does not exist."""
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        missing = set(keys) - values.keys()
    except (ValueError, AttributeError) as error:
        raise AuditError(f"{path}: is damaged ({error}); pass --fresh to start over") from None
    if missing:
        raise AuditError(f"{path}: lacks {', '.join(sorted(missing))}; pass --fresh to start over")
    return values


def start_of(config: Config) -> str:
    """What trainings start from: classification, supernet, scratch or file."""
    return "file" if config.retrain.weights is not None else config.retrain.init


def audit_identity(config: Config, architectures: list[Architecture]) -> dict[str, str]:
    """Hashes of what a training's result, and the ranking that it is compared with, depend on.

    Args:
        config: the experiment.
        architectures: those to train; each has to fit the weights that trainings start from.

    Raises:
        CheckpointError, ConfigError: a net has nothing to start from, or it does not fit.
    """
    starts = [check_start(config, architecture) for architecture in architectures]
    start = "none" if starts[0] is None else file_hash(starts[0])
    return {"training": _training(config), "start": start, **search_identity_of(config.search_dir)}


def search_identity_of(search_dir: Path) -> dict[str, str]:
    """The identity of the search in a folder, as recorded: `search`, its config's hash, and `supernet`."""
    values = recorded_identity(search_dir)  # a journal may have been copied without it
    return {"search": values.get("config", "unknown"), "supernet": values.get("supernet", "unknown")}


def _training(config: Config) -> str:
    retraining, init = config.retrain, start_of(config)
    stages = {"finetune": retraining.finetune or config.finetune}
    others = {}
    if init == "classification":
        stages["pretrain"] = retraining.pretrain or config.pretrain
        others["classification"] = config.require("data.classification").model_dump(mode="json")
    settings = {
        stage: {key: value for key, value in training.identity().items() if key not in OF_SUPERNETS}
        for stage, training in stages.items()
    }
    return config.fingerprint(
        *("seed", "space", "detector"),
        data=config.require("data.detection"),
        metric=config.evaluation.metric,
        init=init,
        whole=retraining.held_out,
        settings=settings,
        **others,
    )
