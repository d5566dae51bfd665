"""The folder of an audit: whose it is, what was planned in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detnas_nni.audit.plan import Plan
from detnas_nni.audit.selection import Candidate, Sample
from detnas_nni.errors import AuditError
from detnas_nni.files import is_free, write_json
from detnas_nni.folder_lock import FolderLock


class AuditFolder:
    """A folder that is one audit's, and this process's own while `claimed` lasts.

    Args:
        path: the folder; it need not be there yet.
        identity: what the audit is of.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self.identity = dict(identity)
        self._owner, self._plan = path / "identity.json", path / "plan.json"

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
                    f"{self.path}: another process audits here, and two would train the same nets; wait for "
                    "its end"
                )
            if not is_free(self.path) and not self._owner.exists():
                raise AuditError(f"{self.path}: exists, and is no audit's folder; move it away")
            if fresh:
                shutil.rmtree(self.path, ignore_errors=True)
            self._expect()
            write_json(self._owner, self.identity)
            yield
        finally:
            lock.release()

    def planned(self, request: Mapping[str, Any], candidates: Sequence[Candidate], seed: int) -> Plan | None:
        """The plan that was made for the same request; None if there is none.

        So an audit that was interrupted goes on with the same nets, although less time is left then.
        """
        saved = _read(self._plan, ("request", "pick", "nets", "seeds"))
        if saved is None or saved["request"] != dict(request):
            return None
        by_ops = {candidate.ops: candidate for candidate in candidates}
        nets = [by_ops.get(tuple(ops)) for ops in saved["nets"]]
        if None in nets:
            return None
        sample = Sample(saved["pick"], tuple(nets), candidates[0], len(candidates))
        return Plan(sample, saved["seeds"], seed)

    def save(self, request: Mapping[str, Any], plan: Plan) -> None:
        """Keep a plan, for who asks for the same again."""
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
                f"{self.path}: holds an audit with {' and '.join(others)}; go on with the old one, pass "
                "--fresh to start over, or choose another run_dir"
            )


def _read(path: Path, keys: Iterable[str]) -> dict[str, Any] | None:
    """What a file of the folder holds; None if it is not there."""
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
