"""Packs OpenAI's byte-pair merges (bpe_simple_vocab_16e6.txt.gz of the PyPI package open_clip_torch, MIT) into clip_bpe.zlib:

    python make_clip_bpe.py open_clip/bpe_simple_vocab_16e6.txt.gz

Tokens 0 to 255 are bytes, 256 to 511 bytes at a word's end, 512 + i is merge i of two earlier tokens. The file holds, for all merges,
the left tokens' high bytes, their low bytes, the right tokens' high bytes, their low bytes; compressed with zlib.
"""

import gzip
import pathlib
import sys
import zlib

MERGES = 49152 - 256 - 2

lines = gzip.open(sys.argv[1]).read().decode().split("\n")[1 : MERGES + 1]
# GPT-2's printable stand-ins for bytes, in the order that gives the first 256 ids.
shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
alphabet = [chr(b) for b in shown] + [chr(256 + i) for i in range(256 - len(shown))]
pairs = [tuple(line.split()) for line in lines]
tokens = alphabet + [c + "</w>" for c in alphabet] + [a + b for a, b in pairs]
ids = {token: i for i, token in enumerate(tokens)}
assert len(ids) == len(tokens) == 49406
left, right = [ids[a] for a, _ in pairs], [ids[b] for _, b in pairs]
assert all(max(a, b) < 512 + i for i, (a, b) in enumerate(zip(left, right)))
table = b"".join(bytes(x >> 8 for x in side) + bytes(x & 255 for x in side) for side in (left, right))
pathlib.Path(__file__).with_name("clip_bpe.zlib").write_bytes(zlib.compress(table, 9))
