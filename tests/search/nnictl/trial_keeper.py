"""NNI's daemon on another machine, as a trial sees it: it passes on the trial's channel, and has no REST API.

    python trial_keeper.py COMMAND …

runs a trial's command behind it.
"""

import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHANNEL = urlsplit(os.environ["NNI_TRIAL_COMMAND_CHANNEL"])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == CHANNEL.path:
            self._pass_on(None)
        else:
            self.send_error(404)

    def do_PUT(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes | None) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(CHANNEL.geturl(), data=body, headers=headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    channel = f"http://127.0.0.1:{server.server_port}{CHANNEL.path}"
    trial = subprocess.run(
        sys.argv[1:], env={**os.environ, "NNI_TRIAL_COMMAND_CHANNEL": channel}, check=False
    )
    sys.exit(trial.returncode)
