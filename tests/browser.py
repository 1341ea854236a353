"""Drive headless Chromium by its DevTools protocol, over pipes: no port, no driver, no network.

A page that is looked at and not touched needs no more than `shown_in_silence`.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

CHROMIUM = shutil.which("chromium")

_ALWAYS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update"""
_FLAGS = f"{_ALWAYS} --hide-scrollbars --remote-debugging-pipe"
_DUMPS = f"{_ALWAYS} --virtual-time-budget=9000 --enable-logging=stderr --v=0 --dump-dom"
_DEADLINE_S = 60


def shown_in_silence(path: Path, folder: Path) -> str:
    """Open a page, assert that it says nothing and asks nobody, and return what is drawn.

    Args:
        path: The page.
        folder: For what the browser keeps.
    """
    log = folder / "net.json"
    alone = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    shown = subprocess.run(
        [str(CHROMIUM), *_DUMPS.split(), *alone, f"--log-net-log={log}", path.as_uri()],
        capture_output=True,
        check=True,
        timeout=60,
        text=True,
    )
    assert "CONSOLE" not in shown.stderr
    assert re.findall('"initiator":"null".*"url":"http.*"', log.read_text()) == []
    return shown.stdout


class Page:
    """A page of a browser, what it said to its console, and what it asked the network for."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._commands, self._answers = commands, answers
        self._sent, self._session = 0, ""
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def open(self, path: Path, width_px: int = 1280, *, dark: bool = False) -> None:
        """Open a file in a window of a width, and wait until its charts are drawn."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=900,
            deviceScaleFactor=1,
            mobile=width_px < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self._send("Page.navigate", url=path.as_uri())
        self.wait_for("document.readyState === 'complete'")
        self.wait_for("[...document.querySelectorAll('[data-chart]')].every((c) => c.firstChild)")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _DEADLINE_S
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} must become true, got: never")
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        done = self._send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise ValueError(done["exceptionDetails"]["exception"]["description"])
        return done["result"].get("value")

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise ValueError(answer["error"]["message"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\0"):
            byte = self._answers.read(1)
            if not byte:
                raise EOFError("the browser has ended")
            data += byte
        answer: dict[str, Any] = json.loads(data[:-1])
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event["method"] in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown"}:
            self.console.append(json.dumps(told))
        elif event["method"] == "Log.entryAdded":
            self.console.append(told["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Start a browser that can reach no network, and yield a page of it."""
    command_out, command_in = os.pipe()
    answer_out, answer_in = os.pipe()
    shell = f'exec "$@" 3<&{command_out} 4>&{answer_in}'
    alone = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}"]
    browser = subprocess.Popen(
        ["bash", "-c", shell, "bash", str(CHROMIUM), *_FLAGS.split(), *alone],
        pass_fds=(command_out, answer_in),
        stderr=subprocess.DEVNULL,
    )
    os.close(command_out)
    os.close(answer_in)
    with os.fdopen(command_in, "wb", 0) as commands, os.fdopen(answer_out, "rb") as answers:
        try:
            yield Page(commands, answers)
        finally:
            browser.terminate()
            browser.wait()
