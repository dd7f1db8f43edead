"""A real browser for the tests: Chromium without a window, over the pipes of its own protocol."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "End": 35, "Home": 36}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # where Chromium listens
os.dup2(int(sys.argv[2]), 4)  # where it answers
os.execv(sys.argv[3], sys.argv[3:])
"""
SECONDS = 60  # for any answer


@contextmanager
def opened(profile, url, width=1280, height=900):
    """A page at ``url``; ``profile`` is an empty folder."""
    to_it, from_us = os.pipe()
    to_us, from_it = os.pipe()

    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    command += ["--no-first-run", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(to_it), str(from_it), *command],
        pass_fds=(to_it, from_it),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_it)
    os.close(from_it)
    try:
        with os.fdopen(from_us, "wb") as writer, os.fdopen(to_us, "rb") as reader:
            yield Page(reader, writer, url, width, height)
    finally:
        process.kill()
        process.wait()


class Page:
    """One page."""

    def __init__(self, reader, writer, url, width, height):
        self._reader, self._writer, self._numbers, self._rest = reader, writer, count(1), b""
        self.events, self._session = [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.send(f"{domain}.enable")
        self.size(width, height)
        self.url = url

    def go(self):
        self.send("Page.navigate", url=self.url)
        end = time.monotonic() + SECONDS
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            assert time.monotonic() < end, "the page does not load"
            self.send("Runtime.evaluate", expression="1")
        return self

    def size(self, width, height, mobile=False):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def dark(self):
        feature = {"name": "prefers-color-scheme", "value": "dark"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def without_scripts(self):
        self.send("Emulation.setScriptExecutionDisabled", value=True)

    def ask(self, expression):
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys):
        for key in keys:
            told = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
            if len(key) == 1 or key == "Enter":
                told["text"] = "\r" if key == "Enter" else key
            self.send("Input.dispatchKeyEvent", type="keyDown", **told)
            self.send("Input.dispatchKeyEvent", type="keyUp", **told)

    def shoot(self, path, whole=True):
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def send(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        self._writer.flush()
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self._rest:
            some = os.read(self._reader.fileno(), 1 << 16)
            assert some, "the browser is gone"
            self._rest += some
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
