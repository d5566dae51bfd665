"""NNI's training service as a trial sees it: parameters out, metrics in, and the manager's REST API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class TrialService:
    """Used as a context.

    Args:
        records: what NNI's manager has on record for a trial; without them its REST API does not answer, as
            on another machine.
    """

    def __init__(self, records: dict[str, dict[str, Any]] | None = None) -> None:
        self.records = records
        self.handed: dict[str, dict[str, Any]] = {}
        """what a trial gets when it asks for parameters"""
        self.metrics: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._outgoing: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))

    def __enter__(self) -> TrialService:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def start(self, trial: str, config_file: Path, *options: str) -> subprocess.Popen:
        """`detnas trial`, in NNI's environment."""
        env = {**os.environ, **self.environment(trial, config_file)}
        command = [str(Path(sys.executable).with_name("detnas")), "trial", "-c", str(config_file), *options]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def environment(self, trial: str, config_file: Path) -> dict[str, str]:
        """The variables that NNI starts a trial with, and one thread."""
        return {
            "NNI_PLATFORM": "local",
            "NNI_EXP_ID": "experiment",
            "NNI_TRIAL_JOB_ID": trial,
            "NNI_TRIAL_SEQ_ID": "0",
            "NNI_SYS_DIR": str(config_file.parent),
            "NNI_OUTPUT_DIR": str(config_file.parent),
            "NNI_TRIAL_COMMAND_CHANNEL": (
                f"http://127.0.0.1:{self._server.server_port}/env/local-env/{trial}"
            ),
            "OMP_NUM_THREADS": "1",
        }

    def finals(self, trial: str) -> list[tuple[int, dict[str, float]]]:
        """The final metrics of a trial, each with the parameter id that it carried."""
        found = [metric for metric in self.metrics[trial] if metric["type"] == "FINAL"]
        return [(metric["parameter_id"], json.loads(metric["value"])) for metric in found]

    def _put(self, trial: str, command: dict[str, Any]) -> None:
        if command["type"] == "request_parameter":
            parameter = json.dumps(self.handed[trial])
            self._outgoing[trial].append({"type": "parameter", "parameter": parameter})
        else:
            self.metrics[trial].append(json.loads(command["metric"]))

    def _get(self, path: str) -> tuple[int, Any]:
        trial = path.rpartition("/")[2]
        if path.startswith("/env/"):
            waiting = self._outgoing[trial]
            return (200, waiting.popleft()) if waiting else (408, "")
        if self.records is None or not path.startswith("/api/v1/nni/trial-jobs/"):
            return 404, ""
        record = json.dumps(self.records[trial])
        return 200, {"trialJobId": trial, "status": "RUNNING", "hyperParameters": [record]}


def _handler_of(service: TrialService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*service._get(self.path))

        def do_PUT(self) -> None:
            command = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service._put(self.path.rpartition("/")[2], command)
            self._answer(200, "")

        def _answer(self, status: int, content: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode() if content else b"")

        def log_message(self, *_: object) -> None:
            pass

    return Handler
