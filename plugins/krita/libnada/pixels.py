"""Krita's pixels and the library's: plain Python, since Krita's Python has no numpy everywhere. Knows nothing of Krita or Qt.

Krita stores RGBA as B, G, R, A in U8 and U16, and as R, G, B, A in F16 and F32; all in the machine's byte order, alpha straight.
"""
import mmap
import re
import struct
from array import array
from operator import mul

from . import nada

FORMATS = {"U8": nada.BGRA8, "U16": nada.RGBA16, "F16": nada.RGBA32F, "F32": nada.RGBA32F}
BYTES = {"U8": 4, "U16": 8, "F16": 8, "F32": 16}
# The array type of a channel, by the library's format.
_CHANNELS = {nada.BGRA8: "B", nada.RGBA8: "B", nada.RGBA16: "H", nada.RGBA32F: "f"}
# Bytes that are converted at a time: whole pixels of any depth.
BAND = 1 << 20
_half_values = None


def _halves():
    """The value of each of the 65536 half floats, boxed once: looking them up is faster than unpacking."""
    global _half_values
    if _half_values is None:
        _half_values = struct.unpack("=65536e", array("H", range(65536)).tobytes())
    return _half_values


def is_empty(data, depth):
    """Whether every pixel (of Krita's, in FORMATS[depth]) is transparent, or nearly so: the high byte of alpha tells."""
    alpha = data[BYTES[depth] - 1::BYTES[depth]]
    return alpha.count(0) == len(alpha)


def room(size):
    """Memory for many pixels, zero: the system's, which costs nothing before it is used; a bytearray is filled at once, and no other
    Python runs meanwhile: the host's would wait."""
    return mmap.mmap(-1, size)


def _by_bands(data, size, convert, look):
    """Converts many pixels with little memory beside the result, which has `size` bytes for each byte of `data`. `look` is called between
    bands: it raises where the user cancelled."""
    result, data = room(int(len(data) * size)), memoryview(data)
    for start in range(0, len(data), BAND):
        look()
        band = convert(data[start:start + BAND])
        at = int(start * size)
        result[at:at + len(band)] = band
    return result


def _swapped(data):
    values = array("H")
    values.frombytes(data)
    values[0::4], values[2::4] = values[2::4], values[0::4]
    return values.tobytes()


def _floats(data):
    values = array("H")
    values.frombytes(data)
    return array("f", map(_halves().__getitem__, values)).tobytes()


def _to_halves(data):
    values = data.cast("f")
    return struct.pack("=%de" % len(values), *values)


def from_krita(data, depth, look=lambda: None):
    """Krita's RGBA pixels of a depth in the library's format, FORMATS[depth]."""
    if depth == "U16":
        return _by_bands(data, 1, _swapped, look)
    if depth == "F16":
        return _by_bands(data, 2, _floats, look)
    return data


def to_krita(data, depth, look=lambda: None):
    """The other way."""
    if depth == "U16":
        return _by_bands(data, 1, _swapped, look)
    if depth == "F16":
        return _by_bands(data, 0.5, _to_halves, look)
    return data


def multiply_alpha(data, format, mask):
    """Multiplies the alpha of pixels (changed in place) with a mask of 8 bits a pixel; integers are rounded to the nearest.

    Only what the mask touches is looked at: it is mostly 0 or 255.
    """
    kind = _CHANNELS[format]
    values = memoryview(data).cast(kind)
    if len(mask) * 4 != len(values):
        raise ValueError("the mask has %d pixels, the picture %d" % (len(mask), len(values) // 4))
    scale = [m / 255 for m in range(256)]
    for run in re.finditer(rb"\x00+|[\x01-\xfe]+", mask, re.DOTALL):
        start, end = run.span()
        if run.group()[0] == 0:
            values[start * 4:end * 4] = memoryview(bytes((end - start) * 4 * values.itemsize)).cast(kind)
            continue
        alpha = values[start * 4 + 3:end * 4:4].tolist()
        if kind == "f":
            product = map(mul, alpha, map(scale.__getitem__, run.group()))
        else:
            product = ((a * m + 127) // 255 for a, m in zip(alpha, run.group()))
        for at, value in zip(range(start * 4 + 3, end * 4, 4), product):
            values[at] = value
