"""The form that docker and dialogs share. Knows nothing of Krita: a Host gives it pictures and takes results; see plugin.py."""
import html

from PyQt5.QtCore import QSize, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QColor, QIcon, QImage, QPainter, QPen, QPixmap
from PyQt5.QtWidgets import (QApplication, QComboBox, QDialog, QDialogButtonBox, QFormLayout, QHBoxLayout, QLabel, QLineEdit, QListView,
                             QListWidget, QListWidgetItem, QProgressBar, QPushButton, QSizePolicy, QSlider, QSpinBox, QVBoxLayout, QWidget)

from . import nada, work

THUMBNAIL, PREVIEW = 64, 128
WORDS = "New, from words"


def pixmap(bitmap, width, height):
    """A Bitmap (RGBA8) that fits into a size."""
    image = QImage(bitmap.data, bitmap.width, bitmap.height, bitmap.width * 4, QImage.Format_RGBA8888)
    return QPixmap.fromImage(image).scaled(width, height, Qt.KeepAspectRatio, Qt.SmoothTransformation)


def literal(text):
    """What a tip shows as it stands: Qt takes a text that looks like HTML for it, and domains are called by what a file says."""
    return "<p>%s</p>" % html.escape(text).replace("\n", "<br>")


def plus(size):
    """The icon of a domain that is yet to be made; icon themes differ from host to host."""
    picture = QPixmap(size, size)
    picture.fill(QColor(128, 128, 128, 60))
    painter = QPainter(picture)
    painter.setPen(QPen(QColor(160, 160, 160), size // 10, Qt.SolidLine, Qt.RoundCap))
    middle, arm = size // 2, size // 5
    painter.drawLine(middle - arm, middle, middle + arm, middle)
    painter.drawLine(middle, middle - arm, middle, middle + arm)
    painter.end()
    return QIcon(picture)


class Labelled(QWidget):
    """A slider with its value as text beside it."""
    changed = pyqtSignal(int)

    def __init__(self, low, high, value, text):
        super().__init__()
        self.slider, self._label, self._text = QSlider(Qt.Horizontal), QLabel(), text
        self.slider.setRange(low, high)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self._label)
        self._label.setMinimumWidth(self._label.fontMetrics().width(text(high)))
        self.slider.valueChanged.connect(self._show)
        self.slider.setValue(value)
        self._show(value)

    def _show(self, value):
        self._label.setText(self._text(value))
        self.changed.emit(value)


class Panel(QWidget):
    """Model, domain or words, settings, preview, progress. `restyles`: works on a picture, else it only makes domains. `remember`: an
    object with get(key, default) and set(key, value), for the values used last."""
    done = pyqtSignal(object)

    def __init__(self, desk, host, remember, restyles=True):
        super().__init__()
        self.desk, self.host, self.engine, self.remember, self.restyles = desk, host, desk.engine, remember, restyles
        self._pack = None
        self._running = self._loaded = False
        self._build()
        desk.busy.connect(self._on_busy)
        desk.gallery_changed.connect(self.refresh)
        self._typing = QTimer(self, singleShot=True, interval=300)
        self._typing.timeout.connect(self._check_words)

    def _build(self):
        form = QFormLayout()
        # Long words of a pack must not make the docker wide.
        form.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
        self.model = QComboBox()
        self.model.setToolTip("The generator that draws, and what knows words. NADA_MODELS names folders with more.")
        form.addRow("Model", self.model)
        self.domains = QListWidget()
        self.domains.setViewMode(QListView.IconMode)
        self.domains.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.domains.setGridSize(QSize(THUMBNAIL + 40, THUMBNAIL + 42))
        self.domains.setResizeMode(QListView.Adjust)
        self.domains.setMovement(QListView.Static)
        self.domains.setWordWrap(True)
        self.domains.setMinimumHeight(THUMBNAIL + 60)
        self.source, self.target = self._words("What the pictures of the model are"), self._words("What they are to become")
        self.warning = QLabel()
        self.warning.setTextFormat(Qt.PlainText)
        self.warning.setWordWrap(True)
        self.warning.hide()
        if self.restyles:
            form.addRow(QLabel("Domains"))
            form.addRow(self.domains)
        form.addRow("From", self.source)
        form.addRow("To", self.target)
        form.addRow(self.warning)
        self.name = QLineEdit()
        self.name.setPlaceholderText("(the words)")
        self.strength = Labelled(0, 150, self.remember.get("strength", 100), lambda v: "%d %%" % v)
        self.keep = Labelled(20, 1000, self.remember.get("keep", 600), lambda v: "%d steps" % v)
        self.keep.setToolTip("How long the picture is looked for in the model: the longer, the more of it is kept")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2 ** 31 - 1)
        self.seed.setValue(self.remember.get("seed", 1))
        if self.restyles:
            form.addRow("Strength", self.strength)
            form.addRow("Keep identity", self.keep)
        else:
            form.addRow("Name", self.name)
        form.addRow("Seed", self.seed)
        self.preview = QLabel()
        self.preview.setAlignment(Qt.AlignCenter)
        self.preview.setMinimumHeight(PREVIEW)
        self.preview.setToolTip("While learning: faces of the model before and after. Else: the picture that was found last, or a face of "
                                "the model")
        self.status = QLabel()
        self.status.setTextFormat(Qt.PlainText)
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextSelectableByMouse)
        self.progress = QProgressBar()
        self.cancel = QPushButton("Cancel")
        self.cancel.clicked.connect(self.desk.cancel)
        bar = QHBoxLayout()
        bar.addWidget(self.progress, 1)
        bar.addWidget(self.cancel)
        self.start = QPushButton("Restyle" if self.restyles else "Make domain")
        self.start.clicked.connect(self.run)
        self.diagnostics = QPushButton("Copy diagnostics")
        self.diagnostics.setToolTip("Versions, paths, the last error and log lines, for a bug report")
        self.diagnostics.clicked.connect(self.copy_diagnostics)
        self.buttons = QHBoxLayout()
        self.buttons.addWidget(self.diagnostics)
        self.buttons.addStretch(1)
        self.buttons.addWidget(self.start)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.preview)
        layout.addWidget(self.status)
        layout.addLayout(bar)
        layout.addLayout(self.buttons)
        self._show_progress(None)
        self._on_busy(self.desk.is_busy)
        self.model.currentTextChanged.connect(self._on_model)
        self.domains.currentItemChanged.connect(self._on_domain)
        self.strength.changed.connect(self._on_strength)
        for words in (self.source, self.target):
            words.editTextChanged.connect(lambda _: self._typing.start())

    @staticmethod
    def _words(tip):
        """A text with the list of what the pack knows."""
        box = QComboBox()
        box.setEditable(True)
        box.setInsertPolicy(QComboBox.NoInsert)
        box.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        box.setMinimumWidth(120)
        box.setToolTip(tip)
        return box

    def showEvent(self, event):
        super().showEvent(event)
        # Only now is the library loaded: a host that is started for something else does not wait for it.
        if not self._loaded:
            self._loaded = True
            self.desk.soon("models", self.engine.models, self._on_models)

    def refresh(self):
        """Reads the gallery anew."""
        if self._loaded and self.restyles:
            model = self._pack.name if self._pack else None
            self.desk.soon("gallery %d" % id(self), lambda: self.engine.gallery(model), self._on_gallery)

    def _on_models(self, models, error):
        if error:
            # Where the library or the starter comes while Krita runs, showing the panel again finds it.
            self._loaded = False
            self.tell(str(error), True)
            return
        names = [entry.name for entry in models]
        self.model.clear()
        for entry in models:
            self.model.addItem(entry.name)
            self.model.setItemData(self.model.count() - 1, entry.description, Qt.ToolTipRole)
        last = self.remember.get("model", "starter")
        self.model.setCurrentText(last if last in names else names[0] if names else "")
        if not names:
            self.tell("No model pack was found. The starter belongs beside the plug-in, in the folder models.", True)

    def _on_model(self, name):
        if name:
            self.desk.soon("pack %d" % id(self), lambda: self.engine.pack(name), self._on_pack)

    def _on_pack(self, pack, error):
        if error:
            self.tell(str(error), True)
            return
        self._pack = pack
        source, target = self.source.currentText() or pack.source, self.target.currentText() or self.remember.get("target", "")
        self.source.clear()
        self.source.addItem(pack.source)
        self.source.setEditText(source)
        self.target.clear()
        self.target.addItems(pack.phrases)
        self.target.setEditText(target)
        self.target.lineEdit().setPlaceholderText("what the model knows: see the list" if pack.phrases else "a pencil sketch")
        if self.remember.get("keep", 0) == 0:
            self.keep.slider.setValue(pack.steps)
        self.refresh()

    def _on_gallery(self, gallery, error):
        if error:
            self.tell(str(error), True)
            return
        chosen = self.domain() or self.remember.get("domain", "")
        self.domains.blockSignals(True)
        self.domains.clear()
        item = QListWidgetItem(plus(THUMBNAIL), WORDS)
        item.setData(Qt.UserRole, "")
        item.setToolTip("Learns the words below first, and keeps what it learned as a domain")
        self.domains.addItem(item)
        self.domains.setCurrentItem(item)
        for entry, thumbnail, fits in zip(gallery.entries, gallery.thumbnails, gallery.fits):
            item = QListWidgetItem(entry.name)
            if thumbnail:
                item.setIcon(QIcon(pixmap(thumbnail, THUMBNAIL, THUMBNAIL)))
            item.setData(Qt.UserRole, entry.file)
            item.setToolTip(literal("From \u201c%s\u201d to \u201c%s\u201d\n%s" % (entry.source, entry.target, entry.file)))
            if not fits:
                item.setFlags(Qt.NoItemFlags)
                item.setToolTip(literal("Made for another model than the chosen one\n%s" % entry.file))
            self.domains.addItem(item)
            if entry.file == chosen and item.flags() & Qt.ItemIsEnabled:
                self.domains.setCurrentItem(item)
        self.domains.blockSignals(False)
        self._on_domain()
        if gallery.skipped:
            self.tell("%d files in %s are no domains." % (gallery.skipped, gallery.folder))

    def domain(self):
        """The file of the chosen domain, "" for words."""
        item = self.domains.currentItem()
        return (item.data(Qt.UserRole) or "") if item and self.restyles else ""

    def choose(self, file):
        """Chooses a domain of the gallery by its file; False where it is not there."""
        for row in range(self.domains.count()):
            if self.domains.item(row).data(Qt.UserRole) == file:
                self.domains.setCurrentRow(row)
                return True
        return False

    def _on_domain(self, *_):
        by_words = not self.domain()
        self.source.setEnabled(by_words)
        self.target.setEnabled(by_words)
        self.warning.setVisible(by_words and bool(self.warning.text()))
        self._on_strength()

    def _on_strength(self, *_):
        """Only draws again: the picture is known from the last time."""
        domain, strength = self.domain(), self.strength.slider.value() / 100
        if domain and self._pack and not self._running:
            model = self._pack.name
            self.desk.soon("preview %d" % id(self), lambda: self.engine.preview(model, domain, strength), self._on_preview)

    def _on_preview(self, bitmap, error):
        if error:
            self.tell(str(error), True)
        else:
            self._show_preview(bitmap)

    def _check_words(self):
        sentences = [self.engine.check_text(self.model.currentText(), text.currentText()) for text in (self.source, self.target)]
        self.warning.setText("\n".join(dict.fromkeys(s for s in sentences if s)))
        self.warning.setVisible(bool(self.warning.text()) and not self.domain())

    def wish(self):
        return work.Wish(self.model.currentText(), self.domain(), self.source.currentText().strip(), self.target.currentText().strip(),
                         self.seed.value(), self.strength.slider.value() / 100, self.keep.slider.value(), 0, True,
                         self.name.text().strip())

    def run(self):
        wish = self.wish()
        if not wish.domain and not (wish.source and wish.target):
            self.tell("Write what the pictures are, and what they are to become.", True)
            return
        try:
            place, task = self._task(wish)
        except Exception as error:
            self.engine.log.error(error)
            self.tell(str(error), True)
            return
        if not self.desk.start(task, self._on_report, lambda result, error: self._on_ended(place, result, error)):
            self.tell("Another job is running.", True)
            return
        for key, value in (("model", wish.model), ("domain", wish.domain), ("target", wish.target), ("seed", wish.seed),
                           ("strength", self.strength.slider.value()), ("keep", self.keep.slider.value())):
            self.remember.set(key, value)
        self._running = True
        self.tell("")
        self._show_progress(work.Report("Starting", 0, 0, None))

    def _task(self, wish):
        if not self.restyles:
            return None, lambda report, cancel: self.engine.new_domain(wish, report, cancel)
        place, picture = self.host.take()
        return place, lambda report, cancel: self.engine.restyle(wish, picture, report, cancel)

    def _on_report(self, report):
        self._show_progress(report)
        if report.preview:
            self._show_preview(report.preview)

    def _on_ended(self, place, result, error):
        self._running = False
        self._show_progress(None)
        if isinstance(error, nada.Cancelled):
            self.tell("Cancelled: nothing was changed.")
            return
        if error:
            self.tell(str(error), True)
            return
        self._show_preview(result.preview)
        warning = "\n" + result.warning if result.warning else ""
        if not self.restyles or not self.domain():
            self.desk.gallery_changed.emit()
        if self.restyles:
            try:
                layer = self.host.deliver(place, result)
            except Exception as problem:
                self.engine.log.error(problem)
                self.tell(str(problem), True)
                return
            self.tell("New layer: %s%s" % (layer.name(), warning))
        else:
            self.tell("New domain: %s%s" % (result.file, warning))
        self.done.emit(result)

    def _on_busy(self, busy):
        self.start.setEnabled(not busy)
        self.cancel.setEnabled(busy)

    def tell(self, text, wrong=False):
        self.status.setText(text)
        self.status.setStyleSheet("color: #d05050" if wrong else "")
        self.status.setVisible(bool(text))

    def _show_progress(self, report):
        self.progress.setVisible(report is not None)
        self.cancel.setVisible(report is not None)
        if report:
            # No total: how long it takes is not known.
            self.progress.setRange(0, report.total)
            self.progress.setValue(report.step)
            self.progress.setFormat("%s: %%v of %%m" % report.stage if report.total else report.stage)
            self.progress.setToolTip(report.stage)

    def _show_preview(self, bitmap):
        self.preview.setPixmap(pixmap(bitmap, max(self.width() - 24, PREVIEW), PREVIEW))

    def copy_diagnostics(self):
        QApplication.clipboard().setText(self.engine.diagnostics(self.host.describe()))
        self.tell("Copied: versions, paths, the last error and the last log lines.")


class Dialog(QDialog):
    """A Panel in a window that lets the host be used meanwhile. Closing it cancels its job."""

    def __init__(self, title, desk, host, remember, restyles, parent):
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WA_DeleteOnClose)
        self.panel = Panel(desk, host, remember, restyles)
        close = QDialogButtonBox(QDialogButtonBox.Close)
        close.rejected.connect(self.reject)
        self.panel.buttons.addWidget(close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self.resize(460, 620 if restyles else 460)
        self.panel.start.setDefault(True)
        if restyles:
            # The result is in the picture: there is nothing left to show, unless there was something to say.
            self.panel.done.connect(lambda result: None if result.warning else self.accept())

    def done(self, result):
        if self.panel._running:
            self.panel.desk.cancel()
        super().done(result)
