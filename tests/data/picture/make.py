"""Writes the pictures of tests/picture.rs beside this file. Needs numpy and pillow; the results are committed."""
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
rng = np.random.RandomState(7)


def chunk(kind, body):
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def png(name, depth, colour, rows, *extra):
    """A PNG written by hand, for kinds that pillow does not write. `rows` are bytes without filter type."""
    width, height = 4, len(rows)
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b''.join(b'\0' + r for r in rows))
    parts = [chunk(b'IHDR', header), *extra, chunk(b'IDAT', body), chunk(b'IEND', b'')]
    (HERE / name).write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(parts))


# A smooth picture with some noise, large enough that the ends of the resampling kernel matter.
yy, xx = np.mgrid[0:37, 0:53]
photo = np.stack([128 + 100 * np.sin(xx / 7), 128 + 100 * np.cos(yy / 5), 3 * xx + 2 * yy], 2) + rng.randint(-20, 21, (37, 53, 3))
photo = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
photo.save(HERE / 'photo.png')
photo.resize((16, 11), Image.BICUBIC).save(HERE / 'photo_16x11.png')
photo.resize((80, 90), Image.BICUBIC).save(HERE / 'photo_80x90.png')
photo.save(HERE / 'photo.jpg', quality=95, subsampling=0)
np.save(HERE / 'photo_jpg.npy', np.asarray(Image.open(HERE / 'photo.jpg')))
# Orientation 6: turn a quarter clockwise to view.
exif = Image.Exif()
exif[0x0112] = 6
photo.save(HERE / 'turned.jpg', quality=95, subsampling=0, exif=exif)
photo.convert('L').save(HERE / 'grey.jpg', quality=95)
Image.new('RGB', (1, 1), (10, 20, 30)).save(HERE / 'one.png')

grey16 = [0, 1, 32768, 65535]
png('grey1.png', 1, 0, [bytes([0b10100000])] * 2)
png('grey16.png', 16, 0, [struct.pack('>4H', *grey16)] * 2)
png('grey_alpha8.png', 8, 4, [bytes([0, 255, 100, 128, 200, 0, 255, 1])] * 2)
png('rgba16.png', 16, 6, [struct.pack('>16H', *(v for g in grey16 for v in (g, 65535 - g, 257, 32768)))] * 2)
palette = chunk(b'PLTE', bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])) + chunk(b'tRNS', bytes([255, 128]))
png('palette.png', 2, 3, [bytes([0b00011000])] * 2, palette)
# 60000 x 60000 pixels claimed by a few bytes.
header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
(HERE / 'huge.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''))
