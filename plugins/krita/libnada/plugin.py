"""What Krita sees: two actions in the Filter menu, and a docker."""
from krita import DockWidget, DockWidgetFactory, DockWidgetFactoryBase, Extension, Krita
from PyQt5.QtCore import PYQT_VERSION_STR, QT_VERSION_STR, QCoreApplication
from PyQt5.QtWidgets import QScrollArea

from . import host, jobs, ui, work

NAME = "libnada"
RESTYLE, NEW_DOMAIN = "Restyle with text...", "New domain from text..."


class Host:
    """What the form asks of Krita."""
    take = staticmethod(host.take)
    deliver = staticmethod(host.deliver)

    @staticmethod
    def describe():
        lines = ["Krita %s, Qt %s, PyQt %s" % (Krita.instance().version(), QT_VERSION_STR, PYQT_VERSION_STR)]
        document = Krita.instance().activeDocument()
        if document:
            lines.append("picture %d x %d, %s %s, %s" % (document.width(), document.height(), document.colorModel(), document.colorDepth(),
                                                         document.colorProfile()))
            node = document.activeNode()
            if node:
                lines.append("layer: %s, %s %s, %s" % (node.type(), *host.space_of(node)))
        return lines


class Remember:
    """The values used last, in Krita's own settings."""

    @staticmethod
    def get(key, default):
        text = Krita.instance().readSetting(NAME, key, "")
        try:
            return type(default)(text) if text else default
        except ValueError:
            return default

    @staticmethod
    def set(key, value):
        Krita.instance().writeSetting(NAME, key, str(value))


class Restyler(Extension):
    """The two actions; owns what all parts share."""

    def __init__(self, parent):
        super().__init__(parent)
        self.engine = work.Engine()
        self.desk = jobs.Desk(self.engine)
        QCoreApplication.instance().aboutToQuit.connect(self.desk.close)

    def setup(self):
        pass

    def createActions(self, window):
        for identifier, text, restyles in (("libnada_restyle", RESTYLE, True), ("libnada_new_domain", NEW_DOMAIN, False)):
            action = window.createAction(identifier, text, "filter")
            action.triggered.connect(lambda _=False, text=text, restyles=restyles: self.open(text, restyles))

    def open(self, text, restyles):
        window = Krita.instance().activeWindow()
        dialog = ui.Dialog(text.rstrip("."), self.desk, Host, Remember, restyles, window.qwindow() if window else None)
        dialog.show()
        return dialog


class Docker(DockWidget):
    def __init__(self):
        super().__init__()
        self.setWindowTitle("Restyle with text")
        extension = instance()
        self.panel = ui.Panel(extension.desk, Host, Remember)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(self.panel)
        self.setWidget(area)

    def canvasChanged(self, canvas):
        pass


_extension = None


def instance():
    global _extension
    if _extension is None:
        _extension = Restyler(Krita.instance())
    return _extension


def register():
    Krita.instance().addExtension(instance())
    Krita.instance().addDockWidgetFactory(DockWidgetFactory(NAME + "_docker", DockWidgetFactoryBase.DockRight, Docker))
