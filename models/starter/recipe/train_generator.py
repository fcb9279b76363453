"""Fits an attribute code E (47 numbers -> w) and the synthesis network to renders. Resumable.

usage: train_generator.py WIDTH
WIDTH is small (64 px) or grow (128 px). Settings come from the environment: S side of the renders (64), FILES renders in data/
(t0,t1), INIT a checkpoint to grow from, B batch (16), T threads (1). It runs until a file STOP_WIDTH appears; ckpt/lr_WIDTH holds a
factor for the learning rates, read at every step. Writes ckpt/gS_WIDTH.pt and a sheet of renders and fits.
"""
import copy
import math
import os
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from stylegan2 import Generator

CHANNELS = {
    'small': {4: 64, 8: 64, 16: 64, 32: 32, 64: 16},
    'grow': {4: 64, 8: 64, 16: 64, 32: 32, 64: 16, 128: 12, 256: 8},
    'medium': {4: 128, 8: 128, 16: 96, 32: 64, 64: 32},
}
HELD_OUT = 256  # the last renders are only looked at
RATES = [4e-3, 1e-3]  # generator, attribute code


def attribute_code():
    return nn.Sequential(nn.Linear(47, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128))


def load_renders(files, side):
    renders, codes = [], []
    for name in files:
        pixels = np.memmap(f'data/{name}.rgb.u8', np.uint8, 'r')
        n = pixels.size // (side * side * 3)
        code = np.fromfile(f'data/{name}.a.f32', np.float32)
        n = min(n, code.size // 47)
        renders.append(np.asarray(pixels[:n * side * side * 3]).reshape(n, side, side, 3))
        codes.append(code[:n * 47].reshape(n, 47))
    return np.concatenate(renders), np.concatenate(codes)


def face_weights(side):
    """Weight maps at full, half, quarter and eighth size: the face (eyes, brows, mouth) counts four times."""
    yy, xx = torch.meshgrid(torch.arange(side) * 64 / side, torch.arange(side) * 64 / side, indexing='ij')
    face = (yy > 22) & (yy < 52) & (xx > 16) & (xx < 48)
    weights = (1 + 3 * face.float())[None, None]
    weights = weights / weights.mean()
    levels = [weights]
    for _ in range(3):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def loss_of(y, target, weights, side):
    """L1, weighted, and on a pyramid the L1 of gradients and averages. Also returns the plain L1."""
    w = weights[int(math.log2(side // y.shape[-1]))]
    loss = ((y - target).abs() * w).mean()
    l1 = float((y - target).abs().mean().detach())
    levels = int(math.log2(y.shape[-1])) - 4 if y.shape[-1] > 64 else 2
    for _ in range(levels):
        gx = (y[..., 1:] - y[..., :-1]) - (target[..., 1:] - target[..., :-1])
        gy = (y[..., 1:, :] - y[..., :-1, :]) - (target[..., 1:, :] - target[..., :-1, :])
        loss = loss + gx.abs().mean() + gy.abs().mean()
        y = F.avg_pool2d(y, 2)
        target = F.avg_pool2d(target, 2)
        loss = loss + (y - target).abs().mean()
    return loss, l1


def main():
    width = sys.argv[1]
    side = int(os.environ.get('S', '64'))
    batch = int(os.environ.get('B', '16'))
    init = os.environ.get('INIT', '')
    torch.set_num_threads(int(os.environ.get('T', '1')))
    torch.manual_seed(int(time.time()))
    np.random.seed(int(time.time()))
    checkpoint = f'ckpt/g{side}_{width}.pt'
    renders, codes = load_renders(os.environ.get('FILES', 't0,t1').split(','), side)
    channels = CHANNELS[width]
    code = attribute_code()
    nn.init.normal_(code[0].weight, 0, 0.4)
    nn.init.normal_(code[2].weight, 0, 0.12)
    model = nn.ModuleDict({'G': Generator(size=side, ch=channels), 'E': code})
    ema = copy.deepcopy(model)
    ema.requires_grad_(False)
    synthesis = [p for n, p in model['G'].named_parameters() if not n.startswith('style.')]
    adam = torch.optim.Adam(
        [{'params': synthesis, 'lr': RATES[0]}, {'params': model['E'].parameters(), 'lr': RATES[1]}], betas=(0.5, 0.99))
    step = seen = 0
    if os.path.exists(checkpoint):
        d = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(d['M'])
        ema.load_state_dict(d['ema'])
        adam.load_state_dict(d['opt'])
        step, seen = d['it'], d['n']
        print('resumed', step, seen, flush=True)
    elif init:
        d = torch.load(init, weights_only=False)
        result = model.load_state_dict(d['M'], strict=False)
        print('grown from', init, 'new tensors', len(result.missing_keys), flush=True)
        ema.load_state_dict(model.state_dict())
    weights = face_weights(side)

    def targets(i):
        return torch.from_numpy(renders[i]).permute(0, 3, 1, 2).float() / 127.5 - 1

    begin = time.time()
    l1s = []
    next_save = time.time() + 60
    seen_at_begin = seen
    while not os.path.exists('STOP_' + width):
        try:
            with open('ckpt/lr_' + width) as f:
                factor = float(f.read())
        except (OSError, ValueError):
            factor = 1.
        for group, rate in zip(adam.param_groups, RATES):
            group['lr'] = rate * factor * min(1, (step + 1) / 200)
        # From coarse to fine; a grown network starts at its full size.
        res = side if init or side > 64 else (16 if seen < 30000 else 32 if seen < 120000 else 64)
        i = np.random.randint(0, len(renders) - HELD_OUT, batch)
        target = targets(i)
        if res < side:
            target = F.avg_pool2d(target, side // res)
        y = model['G'].synth(model['E'](torch.from_numpy(codes[i])), noise=False, res=res)
        loss, l1 = loss_of(y, target, weights, side)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        step += 1
        seen += batch
        l1s.append(l1)
        if step % 4 == 0:
            decay = min(0.999, 1 - 1 / (3 + step / 40))
            with torch.no_grad():
                for p, q in zip(ema.parameters(), model.parameters()):
                    p.lerp_(q, 1 - decay)
        if step % 250 == 0:
            rate = (seen - seen_at_begin) / (time.time() - begin)
            print(f'{step} seen {seen} side {res} {rate:.1f} pictures/s L1 {np.mean(l1s[-250:]):.4f} factor {factor}', flush=True)
        if time.time() > next_save:
            next_save = time.time() + 180
            with torch.no_grad():
                j = np.arange(len(renders) - 20, len(renders))
                y = F.interpolate(ema['G'].synth(ema['E'](torch.from_numpy(codes[j])), noise=False, res=res), size=side)
                held_out = (y - targets(j)).abs().mean().item()
                rows = torch.cat([targets(j)[:10], y[:10], targets(j)[10:], y[10:]]).clamp(-1, 1)
                sheet = ((rows + 1) * 127.5).byte().view(4, 10, 3, side, side).permute(0, 3, 1, 4, 2).reshape(4 * side, 10 * side, 3)
                Image.fromarray(sheet.numpy()).save(f'sheets/g{side}_{width}.png')
            print(f'  held-out L1 {held_out:.4f}', flush=True)
            state = {'M': model.state_dict(), 'ema': ema.state_dict(), 'opt': adam.state_dict(), 'it': step, 'n': seen, 'ch': channels}
            torch.save(state, checkpoint + '.tmp')
            os.replace(checkpoint + '.tmp', checkpoint)


if __name__ == '__main__':
    main()
