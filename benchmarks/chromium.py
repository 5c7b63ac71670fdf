"""A headless Chromium for what only a browser can show: driven over the W3C WebDriver protocol, without further packages."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1100,900", "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """A headless Chromium, driven over the W3C WebDriver protocol."""

    def __init__(self, driver_url: str, profile: Path) -> None:
        options = {"args": [*CHROMIUM_FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.url = f"{driver_url}/session"
        self.url += f"/{self.call('', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"

    def call(self, path: str, content: dict[str, Any] | None = None, method: str = "POST") -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        # What the page before had to say is not this one's.
        self.call("/url", {"url": "about:blank"})
        self.complaints()
        self.call("/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; `return` hands something back."""
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, script: str, timeout_s: float = 60.0) -> Any:
        """Run JavaScript until it returns something true."""
        end = time.monotonic() + timeout_s
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"this did not become true within {timeout_s} s: {script}"
            time.sleep(0.1)
        return found

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("/screenshot", method="GET"))

    def complaints(self) -> list[str]:
        """Errors on the console since the last call."""
        entries = self.call("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def quit(self) -> None:
        self.call("", method="DELETE")


def chromium_is_installed() -> bool:
    """Whether there are a Chromium and its driver (Debian: chromium, chromium-driver)."""
    return shutil.which("chromedriver") is not None and bool(shutil.which("chromium") or shutil.which("google-chrome"))


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A running browser; profile: an empty folder for what it keeps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        browser = Browser(f"http://127.0.0.1:{port}", profile)
        yield browser
        browser.quit()
    finally:
        process.terminate()
        process.wait()
