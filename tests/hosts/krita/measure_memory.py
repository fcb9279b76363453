"""What restyling a picture of 6000 x 4000 pixels costs in memory, in Krita: run in kritarunner, by hand.

    NADA_LIBRARY=$PWD/target/release/libnada.so NADA_MODELS=$PWD/models NADA_MEASURE=U8 QT_QPA_PLATFORM=offscreen \\
        PYTHONPATH=plugins/krita:tests/hosts/krita kritarunner -s measure_memory -f __main__

Prints how much the process grew at the most for a picture of the depth in NADA_MEASURE (U8, U16, F16, F32), in copies of the picture, the
new layer included; and how long the GUI thread was away.
"""
import os
import random
import sys
import tempfile
import time

from krita import Krita
from PyQt5.QtCore import QEventLoop, QTimer

LARGE, SMALL = (6000, 4000), (600, 400)


def status(key):
    with open("/proc/self/status") as file:
        return int([line for line in file if line.startswith(key)][0].split()[1]) / 1024


def measure(engine, desk, host, wish, depth, extent):
    width, height = extent
    size = {"U8": 4, "U16": 8, "F16": 8, "F32": 16}[depth]
    document = Krita.instance().createDocument(width, height, "large", "RGBA", depth, "sRGB-elle-V2-srgbtrc.icc", 72.0)
    document.setBatchmode(True)
    node = document.topLevelNodes()[0]
    # Noise in colour; opaque, for floats that are numbers.
    rng = random.Random(1)
    if depth[0] == "U":
        row = bytearray(rng.randbytes(width * size))
        for byte in range(size // 4):
            row[size - 1 - byte::size] = b"\xff" * width
    else:
        import struct
        code = "e" if depth == "F16" else "f"
        row = struct.pack("=%d%s" % (width * 4, code), *(1.0 if i % 4 == 3 else rng.random() for i in range(width * 4)))
    for y in range(0, height, 100):
        node.setPixelData(bytes(row) * 100, 0, y, width, 100)
    document.refreshProjection()
    document.waitForDone()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, picture_mib = status("VmRSS"), width * height * size / 2 ** 20
    start = time.monotonic()
    place, picture = host.take(document, node)
    taken = time.monotonic() - start
    loop, ended = QEventLoop(), []
    last, gap = [time.monotonic()], [0.0]

    def tick():
        now = time.monotonic()
        gap[0], last[0] = max(gap[0], now - last[0]), now
    timer = QTimer(interval=10)
    timer.timeout.connect(tick)
    timer.start()
    # The job alone holds the picture.
    box = [picture]
    del picture
    desk.start(lambda report, cancel: engine.restyle(wish, box.pop(), report, cancel), None, lambda *r: (ended.append(r), loop.quit()))
    loop.exec_()
    timer.stop()
    if ended[0][1]:
        raise ended[0][1]
    worked = time.monotonic() - start - taken
    start = time.monotonic()
    host.deliver(place, ended[0][0])
    delivered = time.monotonic() - start
    document.waitForDone()
    peak = status("VmHWM") - before
    print("%s: picture %.0f MiB, the process grew by %.0f MiB at the most: %.2f copies; the GUI thread took %.2f s to read, %.2f s to "
          "write, and was away %.2f s at the most during the %.1f s between" % (depth, picture_mib, peak,
          peak / picture_mib, taken, delivered, gap[0], worked), file=sys.stderr, flush=True)
    document.close()


def __main__(*_):
    from libnada import host, jobs, work
    Krita.instance().setBatchmode(True)
    with tempfile.TemporaryDirectory() as folder:
        engine = work.Engine(folder)
        desk = jobs.Desk(engine)
        file = engine.new_domain(work.Wish(target="a pencil sketch", steps=2), lambda report: None).file
        wish = work.Wish(domain=file, inversion_steps=20)
        # What a first job costs whatever the picture's size is not the picture's.
        measure(engine, desk, host, wish, "U8", SMALL)
        measure(engine, desk, host, wish, os.environ["NADA_MEASURE"], LARGE)
        desk.close()
