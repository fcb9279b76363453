"""Takes what tests/faces.rs always runs from the reference data: python3 make.py "$NADA_REFERENCE"

tight.png is a part of NASA's portrait of Eileen Collins, which is in the public domain; the numbers are those of published code (README-faces.md of
the reference data). Only the standard library is used.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

NAME = "astronaut_tight_120x180"
here = Path(__file__).parent
faces = Path(sys.argv[1]) / "faces"


def read(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    at = lambda of: data[8 + length + of[0] : 8 + length + of[1]]
    return {key: (about["dtype"], about["shape"], at(about["data_offsets"])) for key, about in header.items()}


def every_fourth_row(tensor):
    dtype, (height, width, channels), data = tensor
    line = width * channels
    rows = [data[y * line : (y + 1) * line] for y in range(0, height, 4)]
    return dtype, [len(rows), width, channels], b"".join(rows)


def write(path, tensors):
    header, data = {}, b""
    for key, (dtype, shape, part) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


shutil.copyfile(faces / "pictures" / f"{NAME}.png", here / "tight.png")
found = read(faces / "mtcnn_expected" / f"{NAME}.safetensors")
aligned = read(faces / "align" / f"{NAME}_f0_256_256.safetensors")
pasted = read(faces / "paste" / f"{NAME}_f0_256_256.safetensors")
tensors = {key: found[key] for key in ("pad.boxes", "pad.scores", "pad.points", "stage1.boxes")}
tensors["points"] = aligned["points"]
tensors["aligned.every_fourth_row"] = every_fourth_row(aligned["aligned"])
tensors["own.result.every_fourth_row"] = every_fourth_row(pasted["own.result"])
write(here / "tight.safetensors", tensors)
shutil.copyfile(faces / "align" / "quads.safetensors", here / "quads.safetensors")
