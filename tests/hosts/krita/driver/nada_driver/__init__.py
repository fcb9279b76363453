"""A second plug-in that uses the first one as a user does, in a real Krita under Xvfb (see `run`), and then quits.

Writes one line a test to $NADA_TEST_RESULT, "end" last. With NADA_TEST_PICTURES, a folder, it makes the pictures of docs/images instead
of hurrying: it adapts by the whole recipe. With NADA_TEST_SCRIPT=cancels it measures instead; see cancels.py.
"""
import os
import subprocess
import sys
import time
import traceback

from krita import Extension, Krita
from PyQt5.QtCore import QTimer, Qt
from PyQt5.QtWidgets import QApplication, QDockWidget

from . import cancels

WORK, PICTURES = os.environ["NADA_TEST_WORK"], os.environ.get("NADA_TEST_PICTURES", "")
STEPS = 12


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


class Driver(Extension):
    """Runs script(), a generator: it goes on when what it yielded, a function, says true."""

    def setup(self):
        notifier = Krita.instance().notifier()
        notifier.setActive(True)
        notifier.windowCreated.connect(lambda: QTimer.singleShot(2000, self.begin))
        self.begun = False

    def createActions(self, window):
        pass

    def begin(self):
        if self.begun:
            return
        self.begun = True
        self.result = open(os.environ["NADA_TEST_RESULT"], "w")
        script = cancels.script(self) if os.environ.get("NADA_TEST_SCRIPT") == "cancels" else self.run()
        self.name, self.script, self.condition, self.since = "start", script, lambda: True, time.monotonic()
        # How long the GUI thread was away, at the most.
        self.last_tick, self.gap = None, 0.0
        self.timer = QTimer(interval=20)
        self.timer.timeout.connect(self.tick)
        self.timer.start()

    def tell(self, line):
        print(line, file=sys.stderr)
        print(line, file=self.result, flush=True)

    def tick(self):
        now = time.monotonic()
        if self.last_tick is not None:
            self.gap = max(self.gap, now - self.last_tick)
        self.last_tick = now
        try:
            if self.condition():
                self.condition = next(self.script)
                self.since = time.monotonic()
            elif time.monotonic() - self.since > 240:
                raise Failure("nothing happened for 240 s")
        except StopIteration:
            self.end()
        except Exception as error:
            traceback.print_exc()
            self.tell("FAILED %s: %s: %s" % (self.name, type(error).__name__, error))
            self.end()
        self.last_tick = time.monotonic()

    def end(self):
        self.timer.stop()
        self.tell("end")
        for document in Krita.instance().documents():
            # What Krita still computes would count as a change.
            document.waitForDone()
            document.setModified(False)
        QTimer.singleShot(0, Krita.instance().action("file_quit").trigger)

    def passed(self, name):
        self.tell("ok " + name)

    def picture(self, widget, name):
        if PICTURES:
            check(widget.grab().save(os.path.join(PICTURES, "krita-%s.png" % name)), "no picture was written")

    def run(self):
        from libnada import plugin, ui
        krita, extension = Krita.instance(), plugin.instance()
        desk, engine = extension.desk, extension.engine

        self.name = "menu"
        window = krita.activeWindow().qwindow()
        yield krita.activeDocument
        document = krita.activeDocument()
        check(document is not None, "no picture is open")
        menus = [menu for menu in window.menuBar().actions() if menu.text().replace("&", "").startswith("Filter")]
        entries = {action.text().replace("&", ""): action.isEnabled() for action in menus[0].menu().actions()}
        for text in (plugin.RESTYLE, plugin.NEW_DOMAIN):
            check(entries.get(text), "%s is not in the Filter menu, or greyed out: %s" % (text, entries))
        self.passed("the Filter menu has both actions")

        def dialog():
            found = [w for w in QApplication.topLevelWidgets() if isinstance(w, ui.Dialog) and w.isVisible()]
            return found[0] if found else None

        def hurried(panel):
            ask = panel.wish
            panel.wish = lambda: ask()._replace(steps=0 if PICTURES else STEPS)

        def opened(action):
            krita.action(action).trigger()
            check(dialog(), "no dialog")
            hurried(dialog().panel)
            return dialog()

        self.name = "new domain"
        new = opened("libnada_new_domain")
        yield lambda: new.panel._pack is not None
        check("a golden statue" in [new.panel.target.itemText(i) for i in range(new.panel.target.count())], "the list of known words")
        new.panel.target.setEditText("a golden xylophone")
        yield lambda: new.panel.warning.isVisible()
        check("xylophone" in new.panel.warning.text(), new.panel.warning.text())
        new.panel.target.setEditText("a golden statue")
        yield lambda: not new.panel.warning.isVisible()
        self.gap = 0.0
        new.panel.start.click()
        check(desk.is_busy and not new.panel.start.isEnabled(), "no job runs")
        previews = []

        def grown():
            if new.panel.preview.pixmap() and not new.panel.preview.pixmap().isNull():
                key = new.panel.preview.pixmap().cacheKey()
                if key not in previews:
                    previews.append(key)
            return len(previews) >= (5 if PICTURES else 2) or not desk.is_busy
        yield grown
        check(len(previews) >= 2 and desk.is_busy, "the preview did not change while adapting")
        self.picture(new, "new-domain")
        yield lambda: not desk.is_busy
        check(new.panel.status.text().startswith("New domain: "), new.panel.status.text())
        print("new domain: the GUI thread was away for %.3f s at the most" % self.gap, file=sys.stderr)
        new.reject()
        gallery = engine.gallery()
        check([entry.target for entry in gallery.entries] == ["a golden statue"], gallery.entries)
        domain = gallery.entries[0].file
        self.passed("New domain from text: list of words, warning, preview, gallery")

        self.name = "restyle"
        restyle = opened("libnada_restyle")
        yield lambda: restyle.panel._pack is not None and restyle.panel.domains.count() == 2
        check(restyle.panel.choose(domain), "the domain is not in the list")
        check(not restyle.panel.target.isEnabled(), "words are asked for although a domain is chosen")
        steps = 600 if PICTURES else 40
        restyle.panel.keep.slider.setValue(steps)
        yield lambda: restyle.panel.preview.pixmap() is not None
        source = document.activeNode()
        before = bytes(source.pixelData(0, 0, document.width(), document.height()))
        self.gap = 0.0
        restyle.panel.start.click()
        yield lambda: restyle.panel.progress.value() > 10
        check(restyle.panel.cancel.isEnabled(), "there is nothing to cancel with")
        self.picture(restyle, "restyle")
        yield lambda: dialog() is None
        print("restyle: the GUI thread was away for %.3f s at the most" % self.gap, file=sys.stderr)
        document.waitForDone()
        names = [node.name() for node in document.topLevelNodes()]
        wanted = source.name() + " (a golden statue)"
        check(names == [source.name(), wanted], "layers %s" % names)
        yield lambda: document.activeNode().name() == wanted
        layer = document.activeNode()
        side = min(document.width(), document.height())
        got = bytes(layer.pixelData((document.width() - side) // 2, (document.height() - side) // 2, side, side))
        check(bytes(source.pixelData(0, 0, document.width(), document.height())) == before, "the source changed")
        with open(os.path.join(WORK, "in.raw"), "wb") as file:
            file.write(bytes(source.pixelData((document.width() - side) // 2, (document.height() - side) // 2, side, side)))
        subprocess.run([os.environ["NADA_TEST_EXPECT"], domain, "1", str(steps), "U8", "srgb",
                        "15", str(side), file.name, os.path.join(WORK, "out.raw")], check=True)
        with open(os.path.join(WORK, "out.raw"), "rb") as file:
            want = file.read()
        far = max(abs(a - b) for a, b in zip(got, want))
        check(len(got) == len(want) and far <= 1, "the layer is %d away from the library's own" % far)
        self.passed("Restyle with text: a new layer with the library's own pixels")

        self.name = "undo"
        krita.action("edit_undo").trigger()
        yield lambda: [node.name() for node in document.topLevelNodes()] == [source.name()]
        krita.action("edit_redo").trigger()
        yield lambda: [node.name() for node in document.topLevelNodes()] == names
        document.waitForDone()
        again = document.topLevelNodes()[1].pixelData((document.width() - side) // 2, (document.height() - side) // 2, side, side)
        check(bytes(again) == got, "redo brought back other pixels")
        self.passed("one undo takes the layer away, and redo brings it back")

        self.name = "docker"
        dockers = [dock for dock in window.findChildren(QDockWidget) if isinstance(getattr(dock, "panel", None), ui.Panel)]
        check(len(dockers) == 1, "%d dockers" % len(dockers))
        docker = dockers[0]
        docker.setFloating(True)
        docker.show()
        docker.resize(360, 760)
        panel = docker.panel
        hurried(panel)
        document.setActiveNode(document.topLevelNodes()[0])
        yield lambda: panel._pack is not None and panel.domains.count() == 2
        icon = panel.domains.item(1).icon()
        check(not icon.isNull(), "no thumbnail")
        check(panel.choose(domain), "the domain is not in the gallery")
        yield lambda: panel.preview.pixmap() is not None
        shown = []
        for strength in (0, 60, 120):
            key = panel.preview.pixmap().cacheKey()
            panel.strength.slider.setValue(strength)
            yield lambda: panel.preview.pixmap().cacheKey() != key
            shown.append(panel.preview.pixmap().toImage())
        check(shown[0] != shown[1] != shown[2], "the strength changes nothing")
        if PICTURES:
            panel.strength.slider.setValue(80)
            until = time.monotonic() + 2
            yield lambda: time.monotonic() > until
        self.picture(docker, "docker")
        self.passed("docker: gallery with thumbnails, the strength draws again at once")

        self.name = "cancel"
        panel.domains.setCurrentRow(0)
        panel.wish = lambda ask=panel.wish: ask()._replace(steps=0)
        panel.target.setEditText("a zombie")
        layers = len(document.topLevelNodes())
        panel.start.click()
        yield lambda: panel.progress.value() >= 3
        if PICTURES:
            self.picture(window, "window")
        asked = time.monotonic()
        panel.cancel.click()
        yield lambda: not desk.is_busy
        print("cancelled in %.2f s" % (time.monotonic() - asked), file=sys.stderr)
        check(panel.status.text().startswith("Cancelled"), panel.status.text())
        check(len(document.topLevelNodes()) == layers, "a cancelled job left a layer")
        check(len(engine.gallery().entries) == 1, "a cancelled job left a domain")
        self.passed("cancel: no layer, no domain")

        self.name = "diagnostics"
        panel.diagnostics.click()
        text = QApplication.clipboard().text()
        for part in ("Krita %s" % krita.version(), engine.library.file, "model pack starter", "layer: paintlayer", "RGBA U8"):
            check(part in text, "%s is not in the diagnostics: %s" % (part, text))
        self.passed("Copy diagnostics")

        self.name = "quit"
        # A job that runs when Krita is closed must not keep it, or crash it: the exit status is looked at by `run`.
        panel.start.click()
        yield lambda: panel.progress.value() >= 1
        check(desk.is_busy, "no job runs")
        self.passed("Krita is closed while a job runs")


Krita.instance().addExtension(Driver(Krita.instance()))
