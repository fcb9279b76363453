"""What the form shows of names and texts that come out of files, with Qt and without Krita."""
import os
import unittest

import common  # noqa: F401  finds the plug-in

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
from libnada import ui
from PyQt5.QtGui import QTextDocument
from PyQt5.QtWidgets import QApplication

application = QApplication([])


class Literal(unittest.TestCase):
    def test_a_tip_shows_what_looks_like_html_as_it_stands(self):
        text = "From \u201c<b>x</b>\u201d to \u201c<img src='/etc/passwd'>\u201d\n/tmp/a&amp;b.nada.safetensors"
        document = QTextDocument()
        document.setHtml(ui.literal(text))
        # Lines of one paragraph are parted by a character of their own.
        self.assertEqual(document.toPlainText().replace("\u2028", "\n"), text)


if __name__ == "__main__":
    unittest.main()
