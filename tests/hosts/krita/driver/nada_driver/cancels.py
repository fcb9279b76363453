"""How long a press on Cancel takes, as the user sees it, in a real Krita with the starter: `tests/hosts/krita/run cancels`, by hand.

The press comes at random moments of a job, from another thread, as the window system's do: where Krita is busy it waits. Three kinds:
learning words, looking for a picture, and drawing one of 6000 x 4000 pixels that is known. Two times of each press:
- until the docker says that it is cancelled and another job could be started;
- until the job's thread has ended, and Krita has the processors for itself again.
NADA_TEST_MOMENTS: presses of each kind (default 20); NADA_TEST_KINDS: some of "learning looking drawing"; NADA_TEST_DEPTH: of the large
picture (default U8).
"""
import os
import random
import sys
import threading
import time

from krita import Krita
from PyQt5.QtCore import QObject, QTimer, pyqtSignal
from PyQt5.QtWidgets import QDockWidget

MOMENTS, DEPTH = int(os.environ.get("NADA_TEST_MOMENTS") or 20), os.environ.get("NADA_TEST_DEPTH") or "U8"
KINDS = (os.environ.get("NADA_TEST_KINDS") or "learning looking drawing").split()
# Shorter than what is measured.
TICK_MS = 4


class Finger(QObject):
    """Presses a button from another thread."""
    pressed = pyqtSignal(object)

    def __init__(self, panel):
        super().__init__()
        self._panel, self.asked, self.hit = panel, None, None
        self.pressed.connect(self._press)

    def at(self, seconds):
        self.asked = self.hit = None
        timer = threading.Timer(seconds, self._ask)
        timer.daemon = True
        timer.start()

    def _ask(self):
        self.asked = time.monotonic()
        self.pressed.emit(None)

    def _press(self, _):
        self.hit = self._panel.cancel.isVisible() and self._panel.cancel.isEnabled()
        if self.hit:
            self._panel.cancel.click()


def large():
    """A document of noise in colour with a view."""
    from libnada import pixels
    width, height, size = 6000, 4000, pixels.BYTES[DEPTH]
    krita = Krita.instance()
    document = krita.createDocument(width, height, "large", "RGBA", DEPTH, "sRGB-elle-V2-srgbtrc.icc", 72.0)
    krita.activeWindow().addView(document).setVisible()
    rng = random.Random(1)
    # Bytes below a half float's and a float's exponent of infinity.
    row = bytes(rng.randrange(0, 60) for _ in range(width * size))
    for y in range(0, height, 100):
        document.topLevelNodes()[0].setPixelData(row * 100, 0, y, width, 100)
    document.refreshProjection()
    document.waitForDone()
    return document


def remove_result(document):
    for node in document.topLevelNodes()[1:]:
        node.remove()
    document.waitForDone()


def chosen(document):
    """Whether a layer is active; Krita's list of layers hears of changes later."""
    if document.activeNode() is None:
        document.setActiveNode(document.topLevelNodes()[0])
    return document.activeNode() is not None


def script(driver):
    from libnada import jobs, plugin, ui, work
    driver.timer.setInterval(TICK_MS)
    driver.name = "cancels"
    window, extension = Krita.instance().activeWindow().qwindow(), plugin.instance()
    desk, engine = extension.desk, extension.engine
    yield Krita.instance().activeDocument
    document = Krita.instance().activeDocument()
    docker = [d for d in window.findChildren(QDockWidget) if isinstance(getattr(d, "panel", None), ui.Panel)][0]
    docker.setFloating(True)
    docker.show()
    docker.raise_()
    panel, finger, rng = docker.panel, Finger(docker.panel), random.Random(1)
    yield lambda: panel._pack is not None and panel.domains.count() == 1
    file = engine.new_domain(work.Wish(target="a pencil sketch", steps=2), lambda report: None).file
    panel.refresh()
    yield lambda: panel.choose(file)
    ended = []
    run = jobs.Job.run

    def timed(job):
        run(job)
        if job._token:
            ended.append(time.monotonic())
    jobs.Job.run = timed

    def job(words):
        if words:
            panel.domains.setCurrentRow(0)
            panel.target.setEditText("a zombie")
        else:
            panel.choose(file)

    for kind in KINDS:
        if kind == "drawing":
            document = large()
            yield lambda: Krita.instance().activeDocument() == document and document.activeNode()
            panel.keep.slider.setValue(20)
            job(False)
        elif kind == "looking":
            panel.keep.slider.setValue(600)
        until = time.monotonic() + 2
        yield lambda: time.monotonic() > until and not desk._small
        # How long it takes when nobody presses; of what is long enough, the first seconds are enough.
        span = {"learning": 12.0, "looking": 5.0}.get(kind)
        for moment in range(-1 if span is None else 0, MOMENTS):
            if kind != "drawing":
                engine._latents.clear()
            job(kind == "learning")
            yield lambda: not desk._small and chosen(document)
            panel.tell("")
            ended.clear()
            panel.start.click()
            if not desk.is_busy:
                raise Exception("no job was started: " + panel.status.text())
            began = time.monotonic()
            if span is None:
                yield lambda: not desk.is_busy
                span = time.monotonic() - began
                times, late = [], []
                remove_result(document)
                continue
            if moment == 0 and kind != "drawing":
                times, late = [], []
            delay = rng.uniform(0, span)
            finger.at(delay)
            yield lambda: finger.hit is not None
            at = panel.progress.toolTip()
            yield lambda: panel.start.isEnabled() and panel.status.text()
            seen = time.monotonic() - finger.asked
            cancelled = panel.status.text().startswith("Cancelled")
            yield lambda: ended
            gone = ended[-1] - finger.asked
            (times if cancelled else late).append((seen, gone))
            print("%s after %5.2f s (%s): %s after %.3f s, the thread ended after %.3f s" %
                  (kind, delay, at, "cancelled" if cancelled else "it was too late: " + panel.status.text(), seen, gone), file=sys.stderr)
            if not cancelled:
                remove_result(document)
        for what, some in (("cancelled", times), ("too late, the result was seen", late)):
            if some:
                seen, gone = sorted(s for s, _ in some), sorted(g for _, g in some)
                driver.tell("%s, %s: %d presses; seen after %.3f s (median), %.3f s (longest); thread ended after %.3f s, %.3f s; load %.1f" %
                            (kind, what, len(some), seen[len(seen) // 2], seen[-1], gone[len(gone) // 2], gone[-1], os.getloadavg()[0]))
    driver.tell("end")
    # Krita would ask whether the large picture is to be saved.
    os._exit(0)
