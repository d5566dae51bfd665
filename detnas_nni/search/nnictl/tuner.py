"""The search inside `nnictl create --config`: an NNI tuner that hosts an NNI NAS strategy.

nnictl only does hyper-parameter tuning: the manager asks a tuner for parameters, one set per trial. The
strategy runs in a thread of the tuner's process, on an engine whose workers are NNI's trials.

Importing this is quick, and so is creating the tuner: NNI gives a tuner ten seconds from its start to its
first message, and torch and the supernet alone may take longer. They are loaded in the strategy's thread.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nni
from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.tuner import Tuner

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.errors import ConfigError, DetNASError, UsageError
from detnas_nni.search.lock import Owner
from detnas_nni.search.nnictl.follow import mark_folder
from detnas_nni.search.nnictl.liveness import start_guard
from detnas_nni.search.nnictl.rest import RestApi
from detnas_nni.util.processes import Process, lifeline
from search_spaces import search_space_json

if TYPE_CHECKING:
    from detnas_nni.search.nnictl.engine import TrialEngine
    from detnas_nni.search.nnictl.watch import TrialWatch
    from detnas_nni.search.session import SearchSession

_log = logging.getLogger(__name__)


class DetNASTuner(Tuner):
    """The tuner of an experiment's `search.yaml`.

    An error in the config, the supernet or the folder puts the experiment into NNI's state ERROR;
    log/dispatcher.log has the text, and `detnas follow` prints it.

    Args:
        config: the experiment's config, relative to `codeDirectory`.
        overrides: changes to it, as `section.key=value`; give the trial command the same ones by `--set`.
    """

    def __init__(self, config: str, overrides: list[str] | None = None) -> None:
        self._config = config
        self._overrides = overrides or []
        self._space: dict[str, Any] = {}
        self.config: Config | None = None
        self._thread = threading.Thread(target=self._search, name="strategy", daemon=True)
        self._opened = threading.Event()
        self._stopped = False
        self._engine: TrialEngine | None = None
        self._watch: TrialWatch | None = None
        self._error: Exception | None = None
        self._telling, self._told = threading.Lock(), False
        self._dispatcher: MsgDispatcher | None = None

    # What NNI calls, from several threads.

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """NNI's signal that the experiment starts, with the content of `searchSpaceFile`."""
        self._space = search_space
        if self._thread.ident is None:
            self._thread.start()

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], st_callback: Callable[..., None], **_: Any
    ) -> list[dict[str, Any]]:
        first = self._dispatcher is None
        self._dispatcher = st_callback.__self__  # the only way to it that NNI offers
        self._opened.wait()
        answers = []
        if self._engine is not None:
            if first:
                self._recover(self._dispatcher.recovered_trial_params)
            # A failed trial makes room for its own candidate, if that is to be retried.
            self._watch.settle()
            answers = self._engine.request(parameter_id_list, st_callback)
        self._tell_nni()
        return answers

    def receive_trial_result(
        self, parameter_id: int, parameters: Any, value: Any, trial_job_id: str | None = None, **_: Any
    ) -> None:
        if self._watch is not None and trial_job_id is not None:
            self._watch.reported(trial_job_id, parameter_id, value)

    def trial_end(self, parameter_id: int, success: bool, **_: Any) -> None:
        if self._watch is not None:
            self._watch.look()

    def import_data(self, data: list[Any]) -> None:
        """After `nnictl resume`: results of this experiment, as NNI has them.

        The journal and the trials' files have the same, and are right where NNI has swapped parameters.
        """
        if self._watch is not None:
            self._watch.look()

    def _on_exit(self) -> None:
        self._stopped = True
        if self._engine is not None:
            self._engine.shutdown()

    def _on_error(self) -> None:
        self._on_exit()

    # The strategy's thread.

    def _search(self) -> None:
        try:
            self.config = self._checked_config()
            # NNI's NAS packages otherwise import pytorch-lightning, which a search has no use for.
            nni.set_default_framework("none")
            from detnas_nni.search.session import SearchSession, SearchStoppedError

            owner, manager = _owner()
            try:
                with SearchSession(self.config, owner=owner) as session:
                    path = self._run(session, manager)
                _log.info("the search has ended: %s", path)
            except SearchStoppedError as stopped:
                _log.info("%s", stopped)
        except Exception as error:
            if not isinstance(error, DetNASError):
                _log.exception("the search has failed")
            self._error = error
            self._tell_nni()
        finally:
            self._opened.set()
            if self._engine is not None:
                self._engine.shutdown()
            if self._watch is not None:
                self._watch.stop()

    def _run(self, session: SearchSession, manager: Process | None) -> Path:
        from detnas_nni.search.nnictl.engine import TrialEngine
        from detnas_nni.search.nnictl.files import TrialFiles
        from detnas_nni.search.nnictl.watch import TrialWatch

        if manager is not None:
            log = Path(os.environ["NNI_LOG_DIRECTORY"])
            mark_folder(log, session.folder)
            session.lock.update(guard=start_guard(Process.current(), manager, log / "guard.log"))
        api = RestApi.of_tuner()
        if api is None:
            raise UsageError("this tuner is started by NNI; see `nnictl create --config`")
        engine = TrialEngine(session.config.space.name)
        self._watch = TrialWatch(engine, TrialFiles(session.folder, session.identity), api, self._give_up)
        self._watch.start()
        self._engine = engine
        if self._stopped:
            engine.shutdown()
        self._opened.set()
        return session.run(engine, evaluator=None)

    def _checked_config(self) -> Config:
        config = load_config(_find(self._config), self._overrides)
        if self._space != search_space_json(config.space.name):
            raise ConfigError(
                f"searchSpaceFile does not hold the config's space {config.space.name!r}; "
                f"write it with `python -m search_spaces --space {config.space.name}`"
            )
        return config

    def _recover(self, recovered: dict[int, dict[str, Any]]) -> None:
        """Trials that NNI restarts after `nnictl resume`, by their parameter ids."""
        space = self.config.space.name
        self._engine.recover(
            {number: Architecture.from_choices(space, choices).ops for number, choices in recovered.items()}
        )

    def _give_up(self, error: DetNASError) -> None:
        self._error = error
        self._engine.shutdown()
        self._tell_nni()

    def _tell_nni(self) -> None:
        """Put the experiment into NNI's state ERROR if there is an error; log/dispatcher.log has its text.

        An exception would only end one of the dispatcher's threads, and the experiment would stay idle.
        """
        with self._telling:
            if self._error is not None and self._dispatcher is not None and not self._told:
                self._told = True
                self._dispatcher.report_error(str(self._error))


def _owner() -> tuple[Owner, Process | None]:
    """The owner of the search, as others see it; and NNI's manager, which started this process."""
    started_by = lifeline()
    manager = started_by[-1] if started_by else None
    channel = os.environ.get("NNI_TUNER_COMMAND_CHANNEL", "")
    log = os.environ.get("NNI_LOG_DIRECTORY")
    port = channel.removeprefix("ws://").partition("/")[0].rpartition(":")[2]
    return (
        Owner.here(
            "nnictl create",
            manager=manager,
            experiment=None if log is None else Path(log).parent.name,
            port=int(port) if port.isdecimal() else None,
        ),
        manager,
    )


def _find(config: str) -> Path:
    """The config's path. NNI starts a tuner in its log folder; it puts codeDirectory last on sys.path, and
    nothing else says where that is."""
    for folder in reversed(sys.path):
        if (Path(folder) / config).is_file():
            return Path(folder) / config
    raise ConfigError(f"{config}: not found in codeDirectory; classArgs.config is relative to it")
