"""Run inside kritarunner (see `run`): layers that the plug-in makes, compared with the library's own output through the C interface.

Writes one line a test to $NADA_TEST_RESULT: "ok NAME" or "FAILED NAME: why", and "end" last.
"""
import os
import struct
import subprocess
import sys
import traceback

from krita import Krita, Selection
from PyQt5.QtCore import QEventLoop

ROOT = os.environ["NADA_TEST_ROOT"]
WORK = os.environ["NADA_TEST_WORK"]
FACE = os.path.join(ROOT, "examples", "face.png")
STEPS, STRENGTH = 12, 0.8
TOP, BOTTOM = 2, 8
CODES = {"U8": "B", "U16": "H", "F16": "e", "F32": "f"}
LINEAR, SRGB = "sRGB-elle-V2-g10.icc", "sRGB-elle-V2-srgbtrc.icc"

tests = []


def test(function):
    tests.append(function)
    return function


def opened(space=("RGBA", "U8", SRGB), size=(200, 160)):
    """The face as the active layer "face" of a larger picture, the rest of it transparent."""
    document = Krita.instance().openDocument(FACE)
    document.setBatchmode(True)
    assert document.setColorSpace(*space), "no colour space %s" % (space,)
    width, height = size
    document.resizeImage(-(width - 128) // 2, -(height - 128) // 2, width, height)
    document.waitForDone()
    node = document.topLevelNodes()[0]
    node.setName("face")
    document.refreshProjection()
    document.waitForDone()
    return document, node


def wait(desk, start):
    """Runs a job to its end, as the host's event loop does."""
    loop, ended = QEventLoop(), []
    start(lambda *result: (ended.append(result), loop.quit()))
    loop.exec_()
    result, error = ended[0]
    if error:
        raise error
    return result


class Plugin:
    """The plug-in's parts, and a domain to work with."""

    def __init__(self):
        from libnada import host, jobs, work
        self.host, self.work = host, work
        self.engine = work.Engine()
        self.desk = jobs.Desk(self.engine)
        wish = work.Wish(target="a pencil sketch", steps=8)
        self.domain = wait(self.desk, lambda ended: self.desk.start(
            lambda report, cancel: self.engine.new_domain(wish, report, cancel), None, ended)).file
        self.wish = wish._replace(domain=self.domain, strength=STRENGTH, inversion_steps=STEPS)

    def restyle(self, document, node, between=None):
        """What the form's button does; returns the new layer and its place. Without a window no node is active: it is given."""
        place, picture = self.host.take(document, node)
        edges, mask = picture.edges, picture.mask
        result = wait(self.desk, lambda ended: self.desk.start(
            lambda report, cancel: self.engine.restyle(self.wish, picture, report, cancel), None, ended))
        if between:
            between()
        layer = self.host.deliver(place, result)
        document.waitForDone()
        place = place._replace(document=None)
        return layer, place, edges, mask


def expected(plugin, data, depth, transfer, side, edges, mask=None):
    source, target = os.path.join(WORK, "in.raw"), os.path.join(WORK, "out.raw")
    with open(source, "wb") as file:
        file.write(data)
    command = [os.environ["NADA_TEST_EXPECT"], plugin.domain, str(STRENGTH), str(STEPS), depth, transfer, str(edges), str(side), source,
               target]
    if mask is not None:
        with open(os.path.join(WORK, "mask.raw"), "wb") as file:
            file.write(mask)
        command.append(file.name)
    subprocess.run(command, check=True)
    with open(target, "rb") as file:
        return file.read()


def numbers(data, depth):
    return struct.unpack("=%d%s" % (len(data) // struct.calcsize("=" + CODES[depth]), CODES[depth]), data)


def same(got, want, depth, tolerance=0.0):
    """Compares pixels; the colour of what is transparent does not matter."""
    a, b = numbers(bytes(got), depth), numbers(bytes(want), depth)
    assert len(a) == len(b), "%d numbers, not %d" % (len(a), len(b))
    far = max((abs(x - y), i) for i, (x, y) in enumerate(zip(a, b)))
    assert far[0] <= tolerance, "number %d is %s away (%s, not %s)" % (far[1], far[0], a[far[1]], b[far[1]])
    visible = sum(1 for alpha in b[3::4] if alpha)
    assert visible > len(b) // 16, "only %d pixels are visible: nothing was compared" % visible


# Integers may round a number that lies halfway in the other direction: one unit. Half floats are spaced by 2^-11 below 1; floats differ by
# what the curve between light and sRGB loses in single precision.
TOLERANCE = {"U8": 1, "U16": 1, "F16": 2 ** -11, "F32": 2e-6}


def direct(depth, profile):
    def check(plugin):
        document, node = opened(("RGBA", depth, profile))
        layer, place, edges, _ = plugin.restyle(document, node)
        assert (place.x, place.y, place.side, edges) == (20, 0, 160, TOP + BOTTOM), (place, edges)
        area = (20, 0, 160, 160)
        want = expected(plugin, bytes(node.pixelData(*area)), depth, "linear" if profile == LINEAR else "srgb", 160, TOP + BOTTOM)
        same(layer.pixelData(*area), want, depth, TOLERANCE[depth])
        assert layer.colorDepth() == depth
        # Above the one it came from, and nothing outside of the square.
        assert [n.name() for n in document.topLevelNodes()] == ["face", "face (a pencil sketch)"], document.topLevelNodes()
        outside = bytes(layer.pixelData(0, 0, 20, 160)) + bytes(layer.pixelData(180, 0, 20, 160))
        assert outside.count(0) == len(outside)
        document.close()
    check.__name__ = "RGBA_%s_%s" % (depth, "linear" if profile == LINEAR else "srgb")
    tests.append(check)


for _depth in CODES:
    for _profile in (LINEAR, SRGB):
        direct(_depth, _profile)


def through_krita(space, tolerance):
    """Spaces that the library does not know: the result must be what the library makes of Krita's own conversion to sRGB."""
    def check(plugin):
        document, node = opened(space)
        depth = "F32" if space[1] == "F32" else "U16"
        other, _ = opened(space)
        assert other.setColorSpace("RGBA", depth, SRGB)
        other.waitForDone()
        area = (20, 0, 160, 160)
        want = expected(plugin, bytes(other.topLevelNodes()[0].pixelData(*area)), depth, "srgb", 160, TOP + BOTTOM)
        other.close()
        layer, place, _, _ = plugin.restyle(document, node)
        assert (layer.colorModel(), layer.colorDepth()) == space[:2], (layer.colorModel(), layer.colorDepth())
        assert document.setColorSpace("RGBA", depth, SRGB)
        document.waitForDone()
        layer = [n for n in document.topLevelNodes() if n.name() == "face (a pencil sketch)"][0]
        got = numbers(bytes(layer.pixelData(*area)), depth)
        want = numbers(want, depth)
        one = 65535 if depth == "U16" else 1.0
        red, blue = (2, 0) if depth == "U16" else (0, 2)
        worst = total = count = 0
        for i in range(0, len(want), 4):
            # Transparent pixels have no colour.
            if want[i + 3] < one / 2:
                continue
            a, b = [v / one for v in got[i:i + 4]], [v / one for v in want[i:i + 4]]
            if space[0] == "GRAYA":
                # All that grey keeps: the light (sRGB's, by its primaries).
                light = [0.2126 * lin(p[red]) + 0.7152 * lin(p[1]) + 0.0722 * lin(p[blue]) for p in (a, b)]
                far = abs(unlin(light[0]) - unlin(light[1]))
            else:
                far = max(abs(x - y) for x, y in zip(a, b))
            worst, total, count = max(worst, far), total + far, count + 1
        assert count > 5000, "only %d pixels were compared" % count
        print("%s: worst %.4f, mean %.4f of %d pixels" % (check.__name__, worst, total / count, count), file=sys.stderr)
        assert worst <= tolerance, "a pixel is %.4f away" % worst
        document.close()
    check.__name__ = "%s_%s_%s" % (space[0], space[1], space[2].split(".")[0].split("-")[0].replace(" ", ""))
    tests.append(check)


def lin(v):
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def unlin(v):
    return 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055


through_krita(("RGBA", "U8", "ClayRGB-elle-V2-g22.icc"), 0.02)
through_krita(("RGBA", "F32", "Rec2020-elle-V4-g10.icc"), 0.01)
through_krita(("LABA", "U16", "Lab identity built-in"), 0.01)
through_krita(("GRAYA", "U8", "Gray-D50-elle-V2-srgbtrc.icc"), 0.02)
through_krita(("GRAYA", "U16", "Gray-D50-elle-V2-srgbtrc.icc"), 0.02)


@test
def cmyk_becomes_cmyk(plugin):
    # Colours outside of what ink can print move: only that the layer is there and covers the square.
    document, node = opened(("CMYKA", "U8", "Chemical proof"))
    layer, _, _, _ = plugin.restyle(document, node)
    data = bytes(layer.pixelData(20, 0, 160, 160))
    assert layer.colorModel() == "CMYKA" and len(data) == 160 * 160 * 5
    assert sum(1 for alpha in data[4::5] if alpha) > 128 * 100 and len(set(data[0::5])) > 20
    document.close()


@test
def a_picture_that_is_the_square_has_no_feathered_edge(plugin):
    document, node = opened(size=(128, 128))
    layer, _, edges, _ = plugin.restyle(document, node)
    data = bytes(layer.pixelData(0, 0, 128, 128))
    assert edges == 15 and set(data[3::4]) == {255}
    same(data, expected(plugin, bytes(node.pixelData(0, 0, 128, 128)), "U8", "srgb", 128, 15), "U8", 1)
    document.close()


def masked(depth):
    def check(plugin):
        document, node = opened(("RGBA", depth, SRGB))
        # A rectangle of 100 x 90 with a soft edge of odd values; the square is 90 wide, from (55, 30).
        selection = Selection()
        selection.select(50, 30, 100, 90, 255)
        soft = bytes(min(255, 3 * (x + y)) for y in range(40) for x in range(40))
        selection.setPixelData(soft, 60, 40, 40, 40)
        document.setSelection(selection)
        area = (55, 30, 90, 90)
        layer, place, edges, mask = plugin.restyle(document, node)
        assert (place.x, place.y, place.side, edges) == (55, 30, 90, 0), (place, edges)
        assert len(set(mask)) > 50, "the mask lost its soft edge"
        want = expected(plugin, bytes(node.pixelData(*area)), depth, "srgb", 90, 0, bytes(document.selection().pixelData(*area)))
        # The product is rounded twice here (alpha, then times mask).
        same(layer.pixelData(*area), want, depth, TOLERANCE[depth])
        everything = bytes(layer.pixelData(0, 0, 200, 160))
        inside = bytes(layer.pixelData(*area))
        assert sum(1 for v in everything if v) == sum(1 for v in inside if v), "something outside of the selection's square"
        document.close()
    check.__name__ = "selection_%s" % depth
    tests.append(check)


for _depth in CODES:
    masked(_depth)


@test
def a_group_is_restyled_as_it_looks(plugin):
    document, node = opened()
    group = document.createGroupLayer("group")
    document.rootNode().addChildNode(group, node)
    copy = node.duplicate()
    group.addChildNode(copy, None)
    document.refreshProjection()
    document.waitForDone()
    layer, _, _, _ = plugin.restyle(document, group)
    assert [n.name() for n in document.topLevelNodes()] == ["face", "group", "group (a pencil sketch)"]
    want = expected(plugin, bytes(node.pixelData(20, 0, 160, 160)), "U8", "srgb", 160, TOP + BOTTOM)
    same(layer.pixelData(20, 0, 160, 160), want, "U8", 1)
    document.close()


@test
def the_layer_goes_above_its_source_among_others(plugin):
    document, node = opened()
    document.rootNode().addChildNode(document.createNode("top", "paintlayer"), None)
    plugin.restyle(document, node)
    assert [n.name() for n in document.topLevelNodes()] == ["face", "face (a pencil sketch)", "top"], document.topLevelNodes()
    document.close()


@test
def a_layer_that_is_removed_meanwhile_is_no_harm(plugin):
    document, node = opened()
    document.rootNode().addChildNode(document.createNode("other", "paintlayer"), None)
    plugin.restyle(document, node, node.remove)
    assert [n.name() for n in document.topLevelNodes()] == ["other", "face (a pencil sketch)"], document.topLevelNodes()
    document.close()


def refuses(plugin, document, node, words):
    try:
        plugin.host.take(document, node)
    except plugin.host.HostError as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError("nothing was refused")


@test
def a_document_that_is_closed_meanwhile_is_told(plugin):
    document, node = opened()
    try:
        plugin.restyle(document, node, document.close)
    except plugin.host.HostError as error:
        assert "closed" in str(error)
    else:
        raise AssertionError("the layer went nowhere")


@test
def what_cannot_be_restyled_is_told(plugin):
    refuses(plugin, None, None, "Open a picture")
    document, node = opened()
    empty = document.createNode("empty", "paintlayer")
    document.rootNode().addChildNode(empty, None)
    refuses(plugin, document, empty, "is empty there")
    selection = Selection()
    selection.select(500, 500, 10, 10, 255)
    document.setSelection(selection)
    refuses(plugin, document, node, "outside")
    document.close()


@test
def cancelling_changes_nothing(plugin):
    document, node = opened()
    place, picture = plugin.host.take(document, node)
    files = len(plugin.engine.gallery().entries)
    wish = plugin.wish._replace(domain="", target="a zombie")

    def report(report):
        if report.step >= 2:
            plugin.desk.cancel()
    from libnada import nada
    try:
        wait(plugin.desk, lambda ended: plugin.desk.start(
            lambda report, cancel: plugin.engine.restyle(wish, picture, report, cancel), report, ended))
    except nada.Cancelled:
        pass
    else:
        raise AssertionError("it was not cancelled")
    assert [n.name() for n in document.topLevelNodes()] == ["face"]
    assert len(plugin.engine.gallery().entries) == files
    document.close()


def __main__(*_):
    only = os.environ.get("NADA_TEST_ONLY", "")
    with open(os.environ["NADA_TEST_RESULT"], "w") as result:
        def tell(line):
            print(line, file=sys.stderr)
            print(line, file=result, flush=True)
        try:
            Krita.instance().setBatchmode(True)
            plugin = Plugin()
            for function in tests:
                if only not in function.__name__:
                    continue
                try:
                    function(plugin)
                    tell("ok " + function.__name__)
                except Exception as error:
                    traceback.print_exc()
                    tell("FAILED %s: %s: %s" % (function.__name__, type(error).__name__, error))
            plugin.desk.close()
            tell("end")
        except Exception:
            traceback.print_exc()
