"""Debian's Chromium without a window, driven over its DevTools protocol: the page is opened, clicked and
photographed as a reader would.
"""

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_S = 20
FLAGS = [
    "--headless=new",
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class PageLeft(AssertionError):
    """The tab went to another page before it had answered."""


class Tab:
    """One tab: commands, what the page wrote to its console, and the addresses that it asked for."""

    def __init__(self, connection: ClientConnection, session: str):
        self.connection, self.session, self.numbers = connection, session, itertools.count(1)
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive meanwhile are kept."""
        number = next(self.numbers)
        self.connection.send(
            json.dumps({"id": number, "sessionId": self.session, "method": method, "params": parameters})
        )
        while True:
            message = json.loads(self.connection.recv(timeout=WAIT_S))
            if message.get("id") == number and message.get("sessionId") == self.session:
                if "navigated or closed" in str(message.get("error")):
                    raise PageLeft(f"{method}: {message['error']}")
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(
                parameters["exceptionDetails"]
                .get("exception", {})
                .get("description", parameters["exceptionDetails"]["text"])
            )
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str(parameters["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true, also across a change of page."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            # A page that is just being left can't say; the next one will.
            with contextlib.suppress(PageLeft):
                answer = self.call("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
                if answer["result"].get("value") is True:
                    return
            time.sleep(0.05)
        raise AssertionError(f"never became true: {condition}")

    def back(self) -> None:
        """Go back to the page before this one, which may leave before it answers."""
        with contextlib.suppress(PageLeft):
            self.run("history.back()")

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.wait(
            "document.readyState === 'complete' &&"
            f" location.href.startsWith({json.dumps(address.split('#')[0])})"
        )

    def click(self, selector: str) -> None:
        """Press and release the left button in the middle of the first element that the selector finds."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block:"
            " 'center', behavior: 'instant'}); const r = e.getBoundingClientRect(); return {x: r.x +"
            " r.width / 2, y: r.y + r.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def write(self, selector: str, text: str) -> None:
        """Replace a field's content as if it were typed."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select();"
            " })()"
        )
        (
            self.call("Input.insertText", text=text)
            if text
            else self.call("Input.dispatchKeyEvent", type="keyDown", key="Delete", windowsVirtualKeyCode=46)
        )

    def scheme(self, name: str) -> None:
        """Take the reader's scheme to be `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path, *, width: int = 1280, height: int = 900, whole: bool = True) -> None:
        """A photograph of the page, as PNG."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        path.write_bytes(
            base64.b64decode(
                self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
            )
        )
        self.call("Emulation.clearDeviceMetricsOverride")


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A fresh Chromium with one tab; its profile lies in `folder` and it reaches no host but 127.0.0.1."""
    profile = folder / "profile"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen(
            [
                CHROMIUM,
                *FLAGS,
                *sandbox,
                f"--user-data-dir={profile}",
                "--window-size=1280,900",
                "about:blank",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with connect(_address(process, folder / "chromium.log"), max_size=None, proxy=None) as connection:
            yield _tab(connection)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 2 * WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start: {log.read_text(errors='replace')[-2000:]}")


def _tab(connection: ClientConnection) -> Tab:
    def command(number: int, method: str, **parameters: Any) -> dict[str, Any]:
        connection.send(json.dumps({"id": -number, "method": method, "params": parameters}))
        while (message := json.loads(connection.recv(timeout=WAIT_S))).get("id") != -number:
            pass
        return message["result"]

    target = command(1, "Target.createTarget", url="about:blank")["targetId"]
    return Tab(connection, command(2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
