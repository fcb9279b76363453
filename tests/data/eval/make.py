"""Writes measure.safetensors beside this file: pictures, and what the starter recipe's `measure` says of them.

Needs torch, safetensors, and what models/starter/recipe/adapt_pack.py imports; the result is committed.
"""
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / '../../../models/starter/recipe'))
from adapt_pack import measure  # noqa: E402

g = torch.Generator().manual_seed(5)
out = {}
# Sides that 16 divides, does not divide, and is larger than.
for name, n, height, width in [('even', 5, 16, 32), ('uneven', 6, 19, 22), ('small', 7, 9, 5)]:
    plain = F.interpolate(torch.rand(n, 3, 6, 6, generator=g), size=(height, width), mode='bilinear')
    truth = plain.flip(1) * .7
    # Some pictures drift towards their neighbour's, so that not all pair with their own.
    mix = torch.linspace(0, 1, n).view(n, 1, 1, 1)
    adapted = (plain * (1 - mix) + plain.roll(1, 0) * mix) * .8 + .05 * torch.rand(n, 3, height, width, generator=g)
    distance, pairing = measure(adapted, plain, truth)
    print(name, distance, pairing)
    out |= {f'{name}.plain': plain, f'{name}.truth': truth, f'{name}.adapted': adapted, f'{name}.measure': torch.tensor([distance, pairing])}
save_file({k: v.contiguous() for k, v in out.items()}, HERE / 'measure.safetensors')
