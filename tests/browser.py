"""A page as people see it: Chromium without a window, driven by WebDriver over plain HTTP."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


class Browser:
    """An open window."""

    def __init__(self, address: str, session: str) -> None:
        self._address = f"{address}/session/{session}"

    def ask(self, path: str, **data: Any) -> Any:
        """A command of WebDriver."""
        return _post(f"{self._address}/{path}", data)

    def developer(self, command: str, **data: Any) -> Any:
        """A command of the developer tools."""
        return self.ask("goog/cdp/execute", cmd=command, params=data)

    def show(
        self, path: Path, *, width: int = 1280, dark: bool = False, scripts: bool = True
    ) -> None:
        """Open a file in a window of a width."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.developer("Emulation.setEmulatedMedia", features=[scheme])
        self.developer("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.developer(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.ask("url", url=path.resolve().as_uri())

    def run(self, script: str) -> Any:
        """What a function's body returns."""
        return self.ask("execute/sync", script=script, args=[])

    def press(self, selector: str, keys: str) -> None:
        """Type keys with an element in focus."""
        found = self.ask("element", using="css selector", value=selector)
        (number,) = found.values()
        self.ask(f"element/{number}/value", text=keys)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What was logged since the last time: "browser" or "performance"."""
        found: list[dict[str, Any]] = self.ask("se/log", type=kind)
        return found

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [e for e in events if e["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def picture(self, path: Path) -> None:
        """All of the page as PNG."""
        data = self.developer("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A window; the calling test is skipped where Chromium or its driver is not installed."""
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.skip("no chromium with chromedriver; on Debian: apt install chromium-driver")
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = _address(process)
        session = _session(address, program, folder)
        yield Browser(address, session)
        _ask("DELETE", f"{address}/session/{session}", {})
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return f"http://127.0.0.1:{found[1]}"
    raise AssertionError("chromedriver did not start")


def _session(address: str, program: str, folder: Path) -> str:
    options = {"binary": program, "args": [*_FLAGS, f"--user-data-dir={folder}"]}
    logs = {"browser": "ALL", "performance": "ALL"}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": logs}
    answer = _post(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
    return str(answer["sessionId"])


def _post(address: str, data: dict[str, Any]) -> Any:
    return _ask("POST", address, data)


def _ask(method: str, address: str, data: dict[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(data).encode(), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None
