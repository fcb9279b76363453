"""Fits the mapping network style(z) to E(attributes(z)), with endless z.

usage: fit_mapping.py CHECKPOINT OUT MINUTES LEARNING_RATE
CHECKPOINT is train_generator.py's. Environment: S size (128), NM mapping layers (4; the starter has 6), T threads (1).
"""
import math
import os
import sys
import time

import numpy as np
import torch
import torch.nn as nn
from PIL import Image

from latent_attributes import attributes
from stylegan2 import EqualLinear, Generator, PixelNorm
from train_generator import attribute_code


def main():
    torch.set_num_threads(int(os.environ.get('T', '1')))
    torch.manual_seed(1)
    size = int(os.environ.get('S', '128'))
    layers = int(os.environ.get('NM', '4'))
    minutes, rate = float(sys.argv[3]), float(sys.argv[4])
    d = torch.load(sys.argv[1], weights_only=False)
    model = nn.ModuleDict({'G': Generator(size=size, ch=d['ch']), 'E': attribute_code()})
    model.load_state_dict(d['ema'])
    generator, code = model['G'], model['E']
    generator.style = nn.Sequential(PixelNorm(), *[EqualLinear(128, 128, lr_mul=.01, act=True) for _ in range(layers)])
    style = generator.style
    spread = code(attributes(torch.randn(8192, 128))).detach().std(0).mean()
    adam = torch.optim.Adam(style.parameters(), lr=rate, betas=(.9, .99))
    begin = time.time()
    step = 0
    losses = []
    while (time.time() - begin) / 60 < minutes:
        done = (time.time() - begin) / 60 / minutes
        adam.param_groups[0]['lr'] = rate * min(1, (step + 1) / 100) * (.005 + .995 * .5 * (1 + math.cos(math.pi * done)))
        z = torch.randn(512, 128)
        with torch.no_grad():
            target = code(attributes(z))
        loss = ((style(z) - target) / spread).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        step += 1
        losses.append(float(loss.detach()))
        if step % 1000 == 0:
            print(step, f'{time.time() - begin:.0f}s relative squared error {np.mean(losses[-500:]):.4f}', flush=True)
    generator.requires_grad_(False)
    with torch.no_grad():
        z = torch.randn(40, 128, generator=torch.Generator().manual_seed(3))
        mean = style(torch.randn(20000, 128)).mean(0)

        def sheet(w, path):
            y = generator.synth(w, noise=False).clamp(-1, 1)
            rows = ((y + 1) * 127.5).byte().view(len(w) // 10, 10, 3, size, size).permute(0, 3, 1, 4, 2)
            Image.fromarray(rows.reshape(-1, 10 * size, 3).numpy()).save(path)

        sheet(style(z), 'sheets/z.png')
        sheet(code(attributes(z)), 'sheets/z_teacher.png')
        sheet(mean + .7 * (style(z) - mean), 'sheets/z_trunc07.png')
    state = {'G': generator.state_dict(), 'E': code.state_dict(), 'latent_avg': mean, 'ch': d['ch'], 'size': size, 'n_mlp': layers}
    torch.save(state, sys.argv[2])


if __name__ == '__main__':
    main()
