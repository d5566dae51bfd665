"""Take the pictures of NNI's web UI in nni.md: `python docs/screenshots.py --port PORT` while a search runs.

Needs Chromium, which is driven through its DevTools protocol.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import ClientConnection, connect

IMAGES = Path(__file__).parent / "images"

_OPEN_A_TRIAL = """document.querySelector("[data-automation-key='_expand'] i").click()"""

_SHORTEN = """
for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();)
    walker.currentNode.nodeValue = walker.currentNode.nodeValue.replaceAll(HOME, "~");
"""


class Page:
    """A tab of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call of the DevTools protocol. Raises RuntimeError with the browser's words if it fails."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:  # events come in between
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true in the page. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page never came to: {expression}")
            time.sleep(0.2)


@contextmanager
def browser() -> Iterator[Page]:
    """Chromium without a window, with one empty tab."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("Chromium is not on PATH")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [program, *options, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            told = Path(profile) / "DevToolsActivePort"
            deadline = time.monotonic() + 60
            while not told.is_file() or len(told.read_text().splitlines()) < 2:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{program} does not start")
                time.sleep(0.1)
            port, path = told.read_text().splitlines()
            yield from _first_tab(f"ws://127.0.0.1:{port}{path}", f"ws://127.0.0.1:{port}/devtools/page/")
        finally:
            process.terminate()
            process.wait(timeout=30)


def _first_tab(whole: str, pages: str) -> Iterator[Page]:
    with connect(whole, max_size=None) as socket:
        targets = Page(socket).call("Target.getTargets")["targetInfos"]
    [first, *_] = [target["targetId"] for target in targets if target["type"] == "page"]
    with connect(f"{pages}{first}", max_size=None) as socket:
        yield Page(socket)


@dataclass(frozen=True)
class Picture:
    """What is to be seen in one."""

    name: str
    page: str
    tab: str | None = None
    """to click on the page"""
    width: int = 1280
    height: int = 800
    """of the window, in pixels"""
    opened: bool = False
    """whether the first trial of the table is opened"""


PICTURES = (
    Picture("webui-overview", "oview"),
    Picture("webui-trials", "detail", "Default metric"),
    # The labels of many axes stand apart in a wide window alone.
    Picture("webui-hyperparameters", "detail", "Hyper-parameter", width=2000),
    Picture("webui-trial", "detail", "Intermediate result", height=1200, opened=True),
)


def take(page: Page, picture: Picture, server: str, home: str, folder: Path) -> None:
    """One picture of the web UI, with `home` written as ~."""
    size = {"width": picture.width, "height": picture.height}
    page.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=f"{server}/{picture.page}")
    page.wait_for("document.querySelectorAll('[role=row], canvas, svg').length > 2")
    if picture.tab is not None:
        button = f"[...document.querySelectorAll('[role=tab]')].find(b => b.name == {picture.tab!r})"
        page.wait_for(f"!!{button}")
        page.evaluate(f"{button}.click()")
    if picture.opened:
        page.evaluate(_OPEN_A_TRIAL)
    time.sleep(4)  # charts are drawn with an animation
    page.evaluate(_SHORTEN.replace("HOME", json.dumps(home)))
    png = base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])
    out = folder / f"{picture.name}.png"
    # A quarter of the size, and no difference to see.
    Image.open(BytesIO(png)).convert("RGB").quantize(256).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take all pictures of the experiment at a port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="the web UI's (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=IMAGES, metavar="DIR", help="default: docs/images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(f"http://127.0.0.1:{options.port}/api/v1/nni/experiment") as answer:
        home = str(Path(json.load(answer)["logDir"]).parents[1])  # of nni-experiments
    with browser() as page:
        for picture in PICTURES:
            take(page, picture, f"http://127.0.0.1:{options.port}", home, options.out)


if __name__ == "__main__":
    main()
