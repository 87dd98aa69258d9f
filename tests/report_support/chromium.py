"""Headless Chromium through its DevTools pipe: no driver, no package, no port."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One page; `events` are all DevTools events so far."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read, self.buffer, self.number = write, read, b"", 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def _message(self, timeout: float) -> dict[str, Any] | None:
        end = time.monotonic() + timeout
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            data = os.read(self.read, 1 << 20)
            if not data:
                raise RuntimeError("Chromium has ended")
            self.buffer += data
        raw, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(raw)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message(30)
            if answer is None:
                raise TimeoutError(method)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def listen(self, seconds: float) -> None:
        while (event := self._message(seconds)) is not None:
            self.events.append(event)

    def evaluate(self, expression: str) -> Any:
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def open(self, path: Path) -> None:
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.until(f"document.readyState === 'complete' && location.protocol === 'file:' && {len(path.name)} > 0")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" and len(key) == 1 else ""
            )

    def requests(self) -> list[str]:
        """Every address that the page has asked for."""
        found = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return sorted(set(found))

    def complaints(self) -> list[str]:
        """Errors in the console: exceptions, refused resources."""
        entries = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        thrown = [str(e["params"]) for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        return [x["text"] for x in entries if x["level"] == "error"] + thrown


@contextlib.contextmanager
def page(profile: Path, width: int = 1300, height: int = 1000, downloads: Path | None = None) -> Iterator[Page]:
    """A fresh page in a browser of its own."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    os.set_inheritable(to_read, True)
    os.set_inheritable(from_write, True)
    # Chromium reads from descriptor 3 and writes to 4
    command = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{from_write}', "sh", str(CHROMIUM), *FLAGS]
    command += [f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
    process = subprocess.Popen(
        command, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_read)
    os.close(from_write)
    try:
        result = Page(to_write, from_read)
        if downloads is not None:
            result.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        targets: list[dict[str, Any]] = []
        while not targets:
            found = result.send("Target.getTargets")["targetInfos"]
            targets = [t for t in found if t["type"] == "page"]
        attached = result.send("Target.attachToTarget", targetId=targets[0]["targetId"], flatten=True)
        result.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            result.send(f"{domain}.enable")
        yield result
    finally:
        process.kill()
        process.wait()
        os.close(to_write)
        os.close(from_read)
