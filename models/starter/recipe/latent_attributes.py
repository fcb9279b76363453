"""The attributes of z, as render_generator_data.mjs chooses them: one-hot groups and colours, 47 numbers.

Run as a program it compares itself with data/t0.z.f32 and data/t0.a.f32 of that script.
"""
import numpy as np
import torch
import torch.nn.functional as F

# Choices of each group, and what is added to two of them.
GROUPS = [4, 5, 6, 5, 5, 5, 5]
BIAS = torch.zeros(35)
BIAS[4] = .8
BIAS[9] = 1.6

PALETTES = [
    ['1d1614', '4a312c', '724133', 'a55728', 'd6b370', 'e8e1e1', 'c93305', 'f08aa8', '3f6fd0', '3ea04c'],
    ['f8d8c0', 'f1c3a5', 'c68e7a', 'b98e6a', 'a36b4f', '5c3829'],
    ['545454', 'b11f1f', '0b3286', '147f3c', 'eab308', '731ac3', 'ec4899', 'f97316', '151613', 'e8e9e6'],
    ['b6d8f2', 'f6dcc0', 'cfe8c6', 'f3cfdc', 'd9d0f0', 'd6d9dc', 'f6edb4', 'a8dcd6'],
]
PALETTES = [torch.tensor([[int(h[i:i + 2], 16) for i in (0, 2, 4)] for h in p]).float() / 127.5 - 1 for p in PALETTES]


def attributes(z):
    """z [n, 128] -> [n, 47]"""
    z = z / z.square().mean(1, keepdim=True).sqrt()
    parts = []
    k = 0
    scores = z[:, :35] + BIAS
    for size in GROUPS:
        parts.append(F.one_hot(scores[:, k:k + size].argmax(1), size).float())
        k += size
    for palette in PALETTES:
        parts.append(torch.softmax(4 * z[:, k:k + len(palette)], 1) @ palette)
        k += len(palette)
    return torch.cat(parts, 1)


if __name__ == '__main__':
    have = attributes(torch.from_numpy(np.fromfile('data/t0.z.f32', np.float32).reshape(-1, 128)[:500]))
    want = np.fromfile('data/t0.a.f32', np.float32).reshape(-1, 47)[:500]
    print('largest difference', np.abs(have.numpy() - want).max())
