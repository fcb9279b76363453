"""What the unit tests share: where things are."""
import os
import struct
import sys
import zlib

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "..", ".."))
LIBRARY = os.environ.get("NADA_LIBRARY") or os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")),
                                                         "release", "libnada.so")
os.environ["NADA_LIBRARY"] = LIBRARY
os.environ["NADA_MODELS"] = os.path.join(ROOT, "models")
sys.path.insert(0, os.path.join(ROOT, "plugins", "krita"))

# A search that is quick, not good.
FEW_STEPS = 12


def face():
    """examples/face.png as (side, RGBA bytes): filter types none to Paeth, 8 bits, RGB."""
    with open(os.path.join(ROOT, "examples", "face.png"), "rb") as file:
        data = file.read()
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, at + 8)
            assert (width, depth, colour) == (height, 8, 2), "examples/face.png is no square 8-bit RGB picture"
        if kind == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    raw, stride, rows = zlib.decompress(packed), width * 3, []
    above = bytearray(stride)
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            a, b, c = row[x - 3] if x >= 3 else 0, above[x], above[x - 3] if x >= 3 else 0
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[x] = (row[x] + (0, a, b, (a + b) // 2, nearest)[kind]) & 255
        rows.append(row)
        above = row
    rgba = bytearray(b"\xff" * (width * height * 4))
    pixels = b"".join(rows)
    rgba[0::4], rgba[1::4], rgba[2::4] = pixels[0::3], pixels[1::3], pixels[2::3]
    return width, bytes(rgba)


def bgra(rgba):
    """RGBA bytes as Krita stores 8-bit pixels."""
    swapped = bytearray(rgba)
    swapped[0::4], swapped[2::4] = rgba[2::4], rgba[0::4]
    return swapped
