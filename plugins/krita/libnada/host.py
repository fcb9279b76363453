"""Krita's documents: the square of pixels that is worked on, and the layer that comes of it. For the GUI thread only."""
import collections

from krita import Krita
from PyQt5.QtCore import QTimer

from . import nada, pixels, work

# Profiles whose numbers the library understands as they are, by Krita's names; other spaces go through a conversion by Krita.
SRGB_PROFILES = {"sRGB-elle-V2-srgbtrc.icc", "sRGB built-in"}
LINEAR_PROFILES = {"sRGB-elle-V2-g10.icc", "krita-2.5, lcms sRGB built-in with linear gamma TRC", "scRGB (linear)"}
SRGB = "sRGB-elle-V2-srgbtrc.icc"
# Bytes that are copied at a time, beside the picture itself.
BAND = 8 << 20

# How pixels are stored: Krita's colour model, depth and profile.
Space = collections.namedtuple("Space", "model depth profile")
# Where a picture came from. `node`: the layer's unique id; `space`: that of the pixels that were taken.
Place = collections.namedtuple("Place", "document node name x y side space")


class HostError(Exception):
    """What the user has to do first."""


def space_of(node):
    return Space(node.colorModel(), node.colorDepth(), node.colorProfile())


def transfer_of(space):
    """The library's transfer of a space that it understands as it is, else None."""
    if space.model == "RGBA" and space.depth in pixels.FORMATS:
        if space.profile in SRGB_PROFILES:
            return nada.SRGB
        if space.profile in LINEAR_PROFILES:
            return nada.LINEAR
    return None


def readable(space):
    """A space that the library understands, as good as `space`: itself, or RGBA with the sRGB curve."""
    if transfer_of(space) is not None:
        return space
    return Space("RGBA", "F32" if space.depth in ("F16", "F32") else "U16", SRGB)


def bands(width, height, bytes_a_pixel):
    """Pairs of first row and number of rows."""
    rows = max(1, BAND // (width * bytes_a_pixel))
    return [(y, min(rows, height - y)) for y in range(0, height, rows)]


def converted(data, width, height, source, target):
    """Pixels of one space in another, by Krita: as a picture of its own that is closed again."""
    if source == target:
        return data
    document = Krita.instance().createDocument(width, height, "libnada", *source, 72.0)
    if document is None:
        raise HostError("Krita cannot make a picture of %s %s with the profile %s to convert colours." % source)
    try:
        document.setBatchmode(True)
        node = document.rootNode().childNodes()[0]
        node.setPixelData(data, 0, 0, width, height)
        if not document.setColorSpace(*target):
            raise HostError("Krita cannot convert %s %s (%s) " % source + "to %s %s (%s)." % target)
        document.waitForDone()
        return bytes(node.pixelData(0, 0, width, height))
    finally:
        document.setModified(False)
        document.close()


def square(x, y, width, height):
    """The largest centred square of a rectangle."""
    side = min(width, height)
    return x + (width - side) // 2, y + (height - side) // 2, side


def take(document=None, node=None):
    """The square to work on, of the active layer (or the `node` given): a Place and a work.Picture. It lies in the selection, where there
    is one."""
    document = document or Krita.instance().activeDocument()
    if document is None:
        raise HostError("Open a picture first.")
    node = node or document.activeNode()
    if node is None or not node.type().endswith("layer") or node.type() in ("filterlayer", "adjustmentlayer"):
        raise HostError("Choose a layer with a picture first: a paint, group, vector, file, fill or clone layer.")
    document.waitForDone()
    x, y, width, height = 0, 0, document.width(), document.height()
    selection = document.selection()
    if selection is not None:
        left, top = max(selection.x(), 0), max(selection.y(), 0)
        right = min(selection.x() + selection.width(), width)
        bottom = min(selection.y() + selection.height(), height)
        if left >= right or top >= bottom:
            raise HostError("The selection is empty, or lies outside of the picture.")
        x, y, width, height = left, top, right - left, bottom - top
    x, y, side = square(x, y, width, height)
    space = space_of(node)
    target = readable(space)
    # With the layer's masks, and of any kind of layer.
    parts = (converted(bytes(node.projectionPixelData(x, y + row, side, rows)), side, rows, space, target)
             for row, rows in bands(side, side, pixels.BYTES[target.depth]))
    data = bytearray().join(parts)
    if pixels.is_empty(data, target.depth):
        raise HostError("The layer \u201c%s\u201d is empty there." % node.name())
    mask = None
    if selection is not None:
        mask = b"".join(bytes(selection.pixelData(x, y + row, side, rows)) for row, rows in bands(side, side, 1))
    edges = (nada.EDGE_LEFT * (x == 0) + nada.EDGE_TOP * (y == 0) + nada.EDGE_RIGHT * (x + side == document.width())
             + nada.EDGE_BOTTOM * (y + side == document.height()))
    picture = work.Picture(data, side, target.depth, transfer_of(target), mask, edges)
    return Place(document, node.uniqueId(), node.name(), x, y, side, target), picture


def find(node, unique_id):
    for child in node.childNodes():
        if child.uniqueId() == unique_id:
            return child
        below = find(child, unique_id)
        if below is not None:
            return below
    return None


def deliver(place, restyled):
    """The result as a new layer above the one that it came from: one step to undo. It is complete before the picture gets it."""
    document = place.document
    if not any(document == other for other in Krita.instance().documents()):
        raise HostError("The picture was closed meanwhile: there is nowhere to put the result.")
    layer = document.createNode("%s (%s)" % (place.name, restyled.label), "paintlayer")
    space = space_of(layer)
    stride = place.side * pixels.BYTES[place.space.depth]
    for row, rows in bands(place.side, place.side, pixels.BYTES[place.space.depth]):
        band = bytes(memoryview(restyled.data)[row * stride:(row + rows) * stride])
        layer.setPixelData(converted(band, place.side, rows, place.space, space), place.x, place.y + row, place.side, rows)
    source = find(document.rootNode(), place.node)
    if source is not None:
        source.parentNode().addChildNode(layer, source)
    else:
        # The layer was removed meanwhile.
        document.rootNode().addChildNode(layer, None)
    document.refreshProjection()
    # Krita's list of layers hears of it only when its events are handled.
    QTimer.singleShot(0, lambda: document.setActiveNode(layer))
    return layer
