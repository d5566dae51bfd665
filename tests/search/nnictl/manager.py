"""NNI's manager as a tuner sees it: a websocket that NNI's own dispatcher connects to, and its REST API."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nni.runtime.msg_dispatcher import MsgDispatcher
from nni.runtime.tuner_command_channel import CommandType
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from search_spaces import search_space_json

WAIT = 120  # seconds until a test gives up; a message that is due comes within milliseconds


@dataclass(frozen=True)
class Proposed:
    """A trial that the tuner asked the manager to start."""

    id: int
    choices: dict[str, Any]
    packed: str
    """as NNI sends it back when the trial ends"""

    @property
    def job(self) -> str:
        """NNI's id of the trial."""
        return f"trial{self.id}"


class Manager:
    """Runs the tuner in NNI's MsgDispatcher, with its threads and queues, and speaks with it.

    Used as a context: leaves the dispatcher stopped, as NNI leaves it.
    """

    def __init__(self, tuner: Any) -> None:
        self.status = "RUNNING"
        self.statuses: dict[str, str] = {}
        self.records: dict[str, str] = {}
        self.stderr: dict[str, str] = {}
        self.intermediate: dict[str, list[float]] = {}
        self.canceled: list[str] = []
        self._tuner = tuner
        self._messages: queue.Queue[dict[str, str]] = queue.Queue()
        self._connection: ServerConnection | None = None
        self._connected = threading.Event()
        self._server = serve(self._receive, "127.0.0.1", 0)
        self._api = ThreadingHTTPServer(("127.0.0.1", 0), _api_of(self))

    def __enter__(self) -> Manager:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        threading.Thread(target=self._api.serve_forever, daemon=True).start()
        os.environ["NNI_TUNER_COMMAND_CHANNEL"] = f"ws://127.0.0.1:{self._api.server_port}/tuner"
        port = self._server.socket.getsockname()[1]
        self._dispatcher = MsgDispatcher(f"ws://127.0.0.1:{port}/tuner", self._tuner)
        self._running = threading.Thread(target=self._dispatcher.run, daemon=True)
        self._running.start()
        assert self._connected.wait(WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        self._send("TE", "")
        # Its two workers look every three seconds whether it stops; a ping makes them look now.
        while not self._dispatcher.stopping:
            time.sleep(0.01)
        for commands in (self._dispatcher.default_command_queue, self._dispatcher.assessor_command_queue):
            commands.put((CommandType.Ping, None))
        self._running.join(WAIT)
        self._tuner._on_exit()
        self._server.shutdown()
        self._api.shutdown()
        del os.environ["NNI_TUNER_COMMAND_CHANNEL"]

    def start(self, space: str = "tiny") -> None:
        self._send("IN", json.dumps(search_space_json(space)))
        assert self._next()["type"] == "ID"

    def request(self, trials: int) -> None:
        self._send("GE", json.dumps(trials))

    def answer(self) -> Proposed | None:
        """What the tuner says next: a trial to start, or None for "no more trials"."""
        message = self._next()
        if message["type"] == "NO":
            return None
        assert message["type"] == "TR", message
        content = json.loads(message["content"])
        trial = Proposed(content["parameter_id"], content["parameters"], message["content"])
        self.records[trial.job], self.statuses[trial.job] = trial.packed, "RUNNING"
        return trial

    def recover(self, *trials: Proposed) -> None:
        """As after `nnictl resume`, these run again; the tuner proposed them before it was started anew."""
        records = [{**json.loads(trial.packed), "parameter_source": "resumed"} for trial in trials]
        for trial in trials:
            self.records[trial.job], self.statuses[trial.job] = trial.packed, "ADD_RESUMED"
        self._send("FD", "[]")
        self._send("AD", json.dumps(records))

    def proposed(self) -> Proposed:
        """The next trial that the tuner proposes; it may have said before that there are no more for now."""
        while (trial := self.answer()) is None:
            pass
        return trial

    def error(self) -> str:
        """What the tuner reports next, an error: it ends the experiment."""
        message = self._next()
        assert message["type"] == "ER", message
        return message["content"]

    def is_silent(self, seconds: float = 0.3) -> bool:
        try:
            message = self._messages.get(timeout=seconds)
        except queue.Empty:
            return True
        raise AssertionError(message)

    def report(self, trial: Proposed, metrics: dict[str, float], by: Proposed | None = None) -> None:
        """A final metric for a trial's parameters; `by` another trial, if that one was handed them."""
        content = {
            "parameter_id": trial.id,
            "trial_job_id": (by or trial).job,
            "type": "FINAL",
            "sequence": 0,
            "value": json.dumps(metrics),
        }
        self._send("ME", json.dumps(content))

    def end(self, trial: Proposed, event: str = "SUCCEEDED") -> None:
        self.statuses[trial.job] = event
        content = {"trial_job_id": trial.job, "event": event, "hyper_params": trial.packed}
        self._send("EN", json.dumps(content))

    def _send(self, kind: str, content: str) -> None:
        self._connection.send(json.dumps({"type": kind, "content": content}))

    def _next(self) -> dict[str, str]:
        return self._messages.get(timeout=WAIT)

    def _receive(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._connected.set()
        try:
            for message in connection:
                self._messages.put(json.loads(message))
        except ConnectionClosed:
            pass


def _api_of(manager: Manager) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {
                "/api/v1/nni/check-status": {"status": manager.status, "errors": []},
                "/api/v1/nni/trial-jobs": [
                    {"trialJobId": job, "status": manager.statuses[job], "hyperParameters": [record]}
                    for job, record in list(manager.records.items())
                ],
            }
            for job, parts in manager.intermediate.items():
                # The last first: NNI does not promise an order.
                answers[f"/api/v1/nni/metric-data/{job}?type=PERIODICAL"] = [
                    {"sequence": number, "data": json.dumps(json.dumps({"default": parts[number]}))}
                    for number in reversed(range(len(parts)))
                ]
            files = {f"/api/v1/nni/trial-file/{job}/stderr": text for job, text in manager.stderr.items()}
            if self.path not in answers | files:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            answer = files.get(self.path) or json.dumps(answers[self.path])
            self.wfile.write(answer.encode())

        def do_DELETE(self) -> None:
            manager.canceled.append(self.path.rpartition("/")[2])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
