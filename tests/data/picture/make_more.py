"""Writes more/*: pictures that say what their numbers mean in other ways than colour/* does, and other ways to be turned or to have several
frames. Needs numpy and pillow with LittleCMS, whose results are kept beside what is new to it; the results are committed."""
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

HERE = Path(__file__).parent
OUT = HERE / 'more'
OUT.mkdir(exist_ok=True)
SIDE = 24

yy, xx = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
rgb = np.stack([xx, yy, 0.5 + 0.4 * np.sin(6 * (xx + yy))], 2)
plain = Image.fromarray((rgb * 255).round().astype(np.uint8))
plain.save(OUT / 'plain.png')


def s15(*values):
    return b''.join(struct.pack('>i', round(v * 65536)) for v in values)


def text(words):
    data = words.encode('utf-16-be')
    return b'mluc' + struct.pack('>IIIHHII', 0, 1, 12, 0x656E, 0x5553, len(data), 28) + data


def profile(space, pcs, name, tags, kind=b'mntr', version=0x04300000):
    """An ICC profile of the named tags."""
    tags = {b'desc': text(name), b'cprt': text('No copyright'), b'wtpt': b'XYZ \0\0\0\0' + s15(0.9642, 1, 0.8249), **tags}
    table, body, at = struct.pack('>I', len(tags)), b'', 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack('>II', at + len(body), len(data))
        body += data + b'\0' * (-len(data) % 4)
    size = at + len(body)
    head = struct.pack('>I4sI4s4s4s12s4s4sIIIQI', size, b'', version, kind, space, pcs, bytes(12), b'acsp', b'', 0, 0, 0, 0, 0)
    return head + s15(0.9642, 1, 0.8249) + bytes(128 - len(head) - 12) + table + body


def lab(colours):
    """Display P3 numbers to CIE L*a*b* of D50."""
    light = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = light @ np.array([[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]])
    t = xyz / np.array([0.9642, 1.0, 0.8249])
    f = np.where(t > (6 / 29) ** 3, np.cbrt(np.maximum(t, 0)), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


GRID = 11
axis = np.arange(GRID) / (GRID - 1)
cube = lab(np.stack(np.meshgrid(axis, axis, axis, indexing='ij'), -1)).reshape(-1, 3)
# Version 2 of the format has L* = 100 at FF00, version 4 at FFFF.
old = np.stack([cube[:, 0] * 652.8, (cube[:, 1] + 128) * 256, (cube[:, 2] + 128) * 256], 1).round().clip(0, 65535).astype('>u2')
new = np.stack([cube[:, 0] * 655.35, (cube[:, 1] + 128) * 257, (cube[:, 2] + 128) * 257], 1).round().clip(0, 65535).astype('>u2')
ends = struct.pack('>HH', 0, 65535) * 3
mft2 = b'mft2' + struct.pack('>IBBBB', 0, 3, 3, GRID, 0) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack('>HH', 2, 2) + ends + old.tobytes() + ends
linear = (b'curv' + struct.pack('>II', 0, 0)) * 3
clut = bytes([GRID] * 3 + [0] * 13) + bytes([2, 0, 0, 0]) + new.tobytes()
clut += bytes(-len(clut) % 4)
mab = b'mAB ' + struct.pack('>IBBHIIIII', 0, 3, 3, 0, 32, 0, 0, 32 + 36, 32 + 36 + len(clut)) + linear + clut + linear
v2_text = b'desc' + struct.pack('>II', 0, 17) + b'P3 in old tables\0' + bytes(4 + 4 + 2 + 1 + 67)
tables2 = profile(b'RGB ', b'Lab ', '', {b'desc': v2_text, b'cprt': b'text\0\0\0\0none\0', b'A2B0': mft2}, b'scnr', 0x02400000)
tables4 = profile(b'RGB ', b'Lab ', 'P3 in tables', {b'A2B0': mab}, b'scnr')
grey = profile(b'GRAY', b'XYZ ', 'Grey of gamma 1', {b'kTRC': b'curv' + struct.pack('>II', 0, 0)})
cmyk = profile(b'CMYK', b'Lab ', 'Some printer', {}, b'prtr')
wrong = profile(b'RGB ', b'XYZ ', 'Without colours', {})
p3 = Image.open(HERE / 'colour/p3.png').info['icc_profile']
srgb = ImageCms.createProfile('sRGB')


def by_cms(image, icc, mode='RGB'):
    made = ImageCms.profileToProfile(image, io.BytesIO(icc), srgb, outputMode=mode)
    made.info.clear()
    return made


by_cms(plain, tables2).save(OUT / 'tables_want.png')
plain.save(OUT / 'tables2.png', icc_profile=tables2)
plain.save(OUT / 'tables4.tif', icc_profile=tables4, compression='tiff_adobe_deflate')
by_cms(plain, p3).save(OUT / 'p3_want.png')
plain.save(OUT / 'p3.webp', lossless=True, icc_profile=p3)
plain.save(OUT / 'p3.tif', icc_profile=p3, compression='tiff_lzw')
grey_picture = plain.convert('L')
grey_picture.save(OUT / 'grey.png', icc_profile=grey)
light = np.asarray(grey_picture) / 255
Image.fromarray((np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255).round().astype(np.uint8)).save(
    OUT / 'grey_want.png')
grey_picture.save(OUT / 'grey_p3.jpg', quality=95, icc_profile=p3)
plain.save(OUT / 'unusable.png', icc_profile=wrong)
plain.save(OUT / 'damaged.png', icc_profile=b'no profile at all')
plain.convert('CMYK').save(OUT / 'cmyk.jpg', quality=95, icc_profile=cmyk)
plain.convert('CMYK').save(OUT / 'cmyk.tif', compression='tiff_lzw')

# Cameras write Adobe RGB without a profile, with an interoperability index beside "uncalibrated".
exif = Image.Exif()
exif[0x0112] = 1
exif.get_ifd(0x8769).update({0xA001: 65535, 0xA005: {1: 'R03'}})
plain.save(OUT / 'camera_adobe.jpg', quality=100, subsampling=0, exif=exif)
by_cms(plain, Image.open(HERE / 'colour/adobe.png').info['icc_profile']).save(OUT / 'adobe_want.png')

# Of one colour below its first rows: with tables made for it, coded as zeros up to the end, with a head that lets them fill the last byte.
flat = Image.new('L', (200, 200), 200)
flat.paste(grey_picture)
for quality in range(50, 96):
    flat.save(OUT / 'flat.jpg', quality=quality, optimize=True)
    if (OUT / 'flat.jpg').read_bytes()[-3] == 0:
        break
else:
    raise SystemExit('no flat.jpg')

# Turned: Exif in WebP, the tag of TIFF, XMP alone.
wide = plain.crop((0, 0, SIDE, SIDE // 2))
turn = Image.Exif()
turn[0x0112] = 6
wide.save(OUT / 'turned.webp', lossless=True, exif=turn)
wide.save(OUT / 'turned.tif', compression='tiff_lzw', tiffinfo={274: 6})
xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
wide.save(OUT / 'turned_xmp.jpg', quality=100, subsampling=0, xmp=xmp)
wide.transpose(Image.Transpose.ROTATE_270).save(OUT / 'turned_want.png')

# Several pictures in a file.
frames = [plain.quantize(64), wide.resize((SIDE, SIDE)).quantize(64)]
frames[0].save(OUT / 'film.gif', save_all=True, append_images=frames[1:])
Image.open(OUT / 'film.gif').convert('RGB').save(OUT / 'film_want.png')
plain.save(OUT / 'film.webp', lossless=True, save_all=True, append_images=[wide.resize((SIDE, SIDE))])
plain.save(OUT / 'film.png', save_all=True, append_images=[wide.resize((SIDE, SIDE))])
plain.copy().save(OUT / 'pages.tif', save_all=True, append_images=[wide.copy()])

# Alpha in TIFF, in its three meanings: something else, colours stored times it, straight.
alpha = (xx * 255).round().astype(np.uint8)
straight = np.dstack([np.asarray(plain), alpha])
Image.fromarray(straight).save(OUT / 'alpha_want.png')
times = np.dstack([(np.asarray(plain) * (alpha[..., None] / 255)).round().astype(np.uint8), alpha])
for name, pixels, meaning in [('alpha0', straight, 0), ('alpha1', times, 1), ('alpha2', straight, 2)]:
    Image.fromarray(pixels).save(OUT / f'{name}.tif', compression='tiff_lzw')
    # Pillow always writes 2.
    entry = struct.pack('<HHIH', 338, 3, 1, 2)
    data = (OUT / f'{name}.tif').read_bytes()
    assert data.count(entry) == 1
    (OUT / f'{name}.tif').write_bytes(data.replace(entry, struct.pack('<HHIH', 338, 3, 1, meaning)))
plain.quantize(64).save(OUT / 'palette.tif', compression='tiff_lzw')
plain.save(OUT / 'raw.tif', tiffinfo={254: 1}, compression='tiff_lzw')

# BMP of version 5 with a profile behind the pixels.
rows = np.asarray(plain)[::-1, :, ::-1].tobytes()
head = struct.pack('<IiiHHIIiiII', 124, SIDE, SIDE, 1, 24, 0, len(rows), 2835, 2835, 0, 0) + bytes(16)
head += struct.pack('<I', 0x4D424544) + bytes(48) + struct.pack('<IIII', 4, 124 + len(rows), len(p3), 0)
(OUT / 'p3.bmp').write_bytes(b'BM' + struct.pack('<IHHI', 14 + 124 + len(rows) + len(p3), 0, 0, 14 + 124) + head + rows + p3)
