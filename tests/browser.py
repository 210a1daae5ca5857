"""A headless Chromium that tests steer: pages, mouse, touch, keys, screenshots, print."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
SECONDS = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One page, over Chromium's DevTools protocol: JSON with a zero byte behind it, through two pipes."""

    def __init__(self, profile):
        theirs, self.to = os.pipe()
        self.back, ours = os.pipe()
        # Away from 3 and 4, where Chromium looks for them.
        low, (theirs, ours) = (theirs, ours), (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, ours))
        line = f'exec "$@" 3<&{theirs} 4>&{ours}'
        options = (*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe")
        self.process = subprocess.Popen(
            ["bash", "-c", line, "bash", CHROMIUM, *options], pass_fds=(theirs, ours), stderr=subprocess.DEVNULL
        )
        for end in (*low, theirs, ours):
            os.close(end)
        self.number, self.read, self.events, self.session = 0, b"", [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self):
        os.close(self.to)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.back)

    def send(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        while b"\0" not in self.read:
            part = os.read(self.back, 1 << 16)
            assert part, "Chromium has gone"
            self.read += part
        first, _, self.read = self.read.partition(b"\0")
        return json.loads(first)

    # -- pages -----------------------------------------------------------------------------------------------

    def size(self, width, height=900, *, touch=False):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)

    def open(self, address):
        """Go to a page and wait for its viewer; the console must stay empty."""
        self.events.clear()
        self.send("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && document.documentElement.dataset.status !== 'loading'")

    def console(self):
        """What the page complained about."""
        self.run("0")
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event["params"] for event in self.events if event.get("method") in kinds]

    def run(self, code):
        """The value of an expression, of a promise what it comes to."""
        found = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition):
        """Wait for an expression to hold; its value."""
        last = time.monotonic() + SECONDS
        while time.monotonic() < last:
            try:
                if value := self.run(condition):
                    return value
            except AssertionError as error:  # between two pages there is none
                if "context" not in str(error) and "null" not in str(error):
                    raise
            time.sleep(0.03)
        raise AssertionError(f"{condition} does not come true; the page says {self.text('body')[:500]}")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")

    # -- people ----------------------------------------------------------------------------------------------

    def place(self, selector, across=0.5, down=0.5):
        """Where a part of an element is on the screen; it is scrolled there."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'nearest'}})")
        left, top, width, height = self.run(
            f"(({{left, top, width, height}}) => [left, top, width, height])({found}.getBoundingClientRect())"
        )
        return left + across * width, top + down * height

    def mouse(self, kind, x, y, button="left", held=True):
        pressed = 0 if kind == "Released" or not held else {"left": 1, "right": 2}[button]
        which = button if held else "none"
        self.send(
            "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button=which, buttons=pressed, clickCount=1
        )

    def click(self, selector):
        x, y = self.place(selector)
        self.mouse("Pressed", x, y)
        self.mouse("Released", x, y)

    def drag(self, *places, button="left"):
        self.mouse("Moved", *places[0], held=False)
        self.mouse("Pressed", *places[0], button)
        for place in places[1:]:
            self.mouse("Moved", *place, button)
        self.mouse("Released", *places[-1], button)

    def swipe(self, *places):
        """With one finger."""
        for kind, place in zip(("Start", *["Move"] * (len(places) - 1)), places, strict=True):
            self.send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[{"x": place[0], "y": place[1]}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key):
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    # -- paper -----------------------------------------------------------------------------------------------

    def screenshot(self, path, whole=True):
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self):
        """The page printed on A4."""
        found = self.send(
            "Page.printToPDF", printBackground=True, preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69
        )
        return base64.b64decode(found["data"])
