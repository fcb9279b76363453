"""Trains a small CLIP on captioned, filtered renders. Resumable.

usage: train_clip.py BATCH WIDTH LAYERS [--adversarial]
clip-a is what it writes without --adversarial (ckpt/clip_WIDTH_LAYERS.pt). With it training goes on from there, on pictures changed by
one L2 step of at most EPS (1.0) that raises the loss (ckpt/clip_adversarial_WIDTH_LAYERS.pt): clip-b. Environment: T threads (1), EPS.
It runs until a file STOP_clip appears; ckpt/lr_clip holds a factor for the learning rate, read at every step.
"""
import argparse
import json
import math
import os
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import bpe
from clip_data import FILTER_NAMES, FILTERS, STYLE, apply, attributes, caption, gaussian
from clip_model import CLIP, MEAN

RENDERS = ('cA', 'cB', 'cC', 'cD')
RATE = 1e-3


def load_renders():
    """Renders [n, 64, 64, 3] u8 and their attributes, those of render_generator_data.mjs's first 4000 included."""
    pictures, described = [], []
    for name in RENDERS:
        try:
            pixels = np.fromfile(f'data/{name}.rgb.u8', np.uint8)
        except FileNotFoundError:
            continue
        with open(f'data/{name}.jsonl') as f:
            lines = [attributes(json.loads(line)) for line in f if line.endswith('\n')]
        n = min(len(lines), pixels.size // 12288)
        pictures.append(pixels[:n * 12288].reshape(n, 64, 64, 3))
        described += lines[:n]
    try:
        pixels = np.fromfile('data/t0.rgb.u8', np.uint8)[:4000 * 12288].reshape(-1, 64, 64, 3)
        pictures.append(pixels)
        with open('data/t0.jsonl') as f:
            described += [source_attributes(json.loads(line)) for line in list(f)[:len(pixels)]]
    except FileNotFoundError:
        pass
    return np.concatenate(pictures), described


def source_attributes(e):
    """Attributes of the generator's own renders, with all their hair, skin and clothes colours."""
    skin = {'fair': 'light', 'light': 'light', 'tan': 'brown', 'olive': 'brown', 'brown': 'brown', 'dark': 'dark'}
    mood = {'laugh': 'laughing', 'angry': 'angry', 'agape': 'surprised', 'smile': 'smiling', 'sad': 'sad'}
    a = {'style': 'toon-head', 'hair': e['hairColor'], 'clothes': e['clothesColor'], 'skin': skin[e['skinColor']]}
    if e['beard'] != 'none':
        a['beard'] = 'a moustache' if e['beard'] == 'moustacheTwirl' else 'a beard'
    if e['rearHair'].startswith('long'):
        a['len'] = 'long'
    if e['hair'] == 'bun':
        a['len'] = 'a bun of'
    a['mood'] = mood[e['mouth']]
    return a


def augment(x):
    n = len(x)
    scale = torch.rand(n) * .3 + .75
    m = torch.zeros(n, 2, 3)
    turn = (torch.rand(n) - .5) * .3
    flip = torch.where(torch.rand(n) < .5, -1., 1.)
    m[:, 0, 0] = scale * torch.cos(turn) * flip
    m[:, 0, 1] = -scale * torch.sin(turn)
    m[:, 1, 0] = scale * torch.sin(turn) * flip
    m[:, 1, 1] = scale * torch.cos(turn)
    m[:, :, 2] = (torch.rand(n, 2) - .5) * .25
    x = F.grid_sample(x, F.affine_grid(m, x.shape, align_corners=False), padding_mode='reflection', align_corners=False)
    x = x * (torch.rand(n, 1, 1, 1) * .2 + .9) + (torch.rand(n, 1, 1, 1) - .5) * .08
    soft = (torch.rand(n, 1, 1, 1) < .4).float()
    x = x * (1 - soft) + gaussian(x, .7) * soft
    return (x + torch.randn_like(x) * torch.rand(n, 1, 1, 1) * .05).clamp(0, 1)


def unit(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def draw_batch(pictures, described, size, rng, tokenizer, filtered=.55):
    """Augmented pictures [size, 3, 64, 64] in [0, 1], of which a share is filtered, their captions and token ids."""
    i = np.random.randint(0, len(described), size)
    x = unit(pictures[i])
    filters = [rng.choice(FILTER_NAMES) if rng.random() < filtered else None for _ in range(size)]
    y = x.clone()
    for name in set(filters) - {None}:
        j = [k for k in range(size) if filters[k] == name]
        y[j] = apply(name, x[j])
    y = augment(y)
    captions = [caption(described[k], name, rng) for k, name in zip(i, filters)]
    return y, torch.tensor([tokenizer(c) for c in captions]), captions


def soft_targets(captions):
    """Equal captions count as positives of each other."""
    first = {}
    k = torch.tensor([first.setdefault(c, len(first)) for c in captions])
    same = (k[:, None] == k[None]).float()
    return same / same.sum(1, keepdim=True)


def contrastive(images, texts, scale, targets):
    logits = images @ texts.t() * scale
    return (-(targets * logits.log_softmax(1)).sum(1).mean() - (targets * logits.t().log_softmax(1)).sum(1).mean()) / 2


def per_sample_norm(x):
    return x.flatten(1).norm(dim=1)[:, None, None, None]


def adversarial(model, x, texts, scale, targets, eps):
    """x after one L2 step, of a random length up to eps, that raises the loss most: gradients then look like the words."""
    for p in model.parameters():
        p.requires_grad_(False)
    start = torch.randn_like(x)
    start = start / per_sample_norm(start) * eps * .5 * torch.rand(len(x), 1, 1, 1)
    start.requires_grad_(True)
    loss = contrastive(model.img((x + start - MEAN) / .5), texts.detach(), scale.detach(), targets)
    gradient, = torch.autograd.grad(loss, start)
    for p in model.parameters():
        p.requires_grad_(True)
    step = gradient / (per_sample_norm(gradient) + 1e-12)
    return (x + step * (eps * torch.rand(len(x), 1, 1, 1).sqrt())).clamp(0, 1).detach()


def evaluate(model, tokenizer, pictures, described):
    """Prints zero-shot accuracy over filters and over styles on held-out renders."""
    model.eval()
    with torch.no_grad():
        def embed(phrases):
            return model.txt(torch.tensor([tokenizer(p) for p in phrases]), tokenizer.end)

        texts = embed([FILTERS[name][0] for name in FILTER_NAMES])
        x = unit(pictures[np.random.RandomState(1).randint(0, len(described), 48)])
        accuracy = {}
        for k, name in enumerate(FILTER_NAMES):
            scores = model.img((apply(name, x) - MEAN) / .5) @ texts.t()
            accuracy[name] = round((scores.argmax(1) == k).float().mean().item(), 2)
        print('  held-out filters %.3f' % np.mean(list(accuracy.values())), {k: v for k, v in accuracy.items() if v < .8})
        styles = list(STYLE)
        texts = embed([STYLE[s][0] for s in styles])
        accuracy = {}
        for k, style in enumerate(styles):
            j = [i for i, a in enumerate(described) if a['style'] == style][:40]
            scores = model.img((unit(pictures[j]) - MEAN) / .5) @ texts.t()
            accuracy[style] = round((scores.argmax(1) == k).float().mean().item(), 2)
        print('  held-out styles %.3f' % np.mean(list(accuracy.values())), {k: v for k, v in accuracy.items() if v < .8}, flush=True)
    model.train()


def main():
    p = argparse.ArgumentParser()
    p.add_argument('batch', type=int)
    p.add_argument('width', type=int)
    p.add_argument('layers', type=int)
    p.add_argument('--adversarial', action='store_true')
    o = p.parse_args()
    eps = float(os.environ.get('EPS', '1.0'))
    torch.set_num_threads(int(os.environ.get('T', '1')))
    rng = random.Random(int(time.time()))
    np.random.seed(int(time.time()))
    torch.manual_seed(int(time.time()))

    pictures, described = load_renders()
    held = np.random.RandomState(0).rand(len(described)) < .04
    held_pictures, held_described = pictures[held], [a for a, h in zip(described, held) if h]
    pictures, described = pictures[~held], [a for a, h in zip(described, held) if not h]
    print('renders', len(described), 'held out', len(held_described), flush=True)

    if os.path.exists('ckpt/vocab.json'):
        vocab, merges = bpe.load('ckpt/vocab.json', 'ckpt/merges.txt')
    else:
        r = random.Random(0)
        corpus = [caption(a, r.choice([None] + FILTER_NAMES), r) for a in described[:20000] for _ in range(2)]
        vocab, merges = bpe.train(corpus + sum(FILTERS.values(), []) * 50, 1500)
        bpe.save(vocab, merges, 'ckpt/vocab.json', 'ckpt/merges.txt')
    tokenizer = bpe.Tokenizer(vocab, merges)
    model = CLIP(len(vocab), o.width, o.layers)
    print('tokens', len(vocab), 'parameters', sum(p.numel() for p in model.parameters()) / 1e6, 'M', flush=True)
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(.9, .98), weight_decay=.05)

    plain = f'ckpt/clip_{o.width}_{o.layers}.pt'
    checkpoint = f'ckpt/clip_adversarial_{o.width}_{o.layers}.pt' if o.adversarial else plain
    step = seen = 0
    start = checkpoint if os.path.exists(checkpoint) else plain if o.adversarial else None
    if start:
        d = torch.load(start, weights_only=False)
        model.load_state_dict(d['M'])
        adam.load_state_dict(d['opt'])
        if start == checkpoint:
            step, seen = d['it'], d['n']
        print('from', start, d['n'], flush=True)

    begin = time.time()
    seen_at_begin = seen
    losses = []
    next_save = time.time() + 240
    while not os.path.exists('STOP_clip'):
        try:
            with open('ckpt/lr_clip') as f:
                factor = float(f.read())
        except (OSError, ValueError):
            factor = 1.
        for group in adam.param_groups:
            group['lr'] = RATE * factor * min(1, (step + 1) / 100)
        x, ids, captions = draw_batch(pictures, described, o.batch, rng, tokenizer)
        targets = soft_targets(captions)
        texts = model.txt(ids, tokenizer.end)
        scale = model.logit_scale.exp().clamp(max=100)
        if o.adversarial:
            x = adversarial(model, x, texts, scale, targets, eps)
        loss = contrastive(model.img((x - MEAN) / .5), texts, scale, targets)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.)
        adam.step()
        step += 1
        seen += o.batch
        losses.append(float(loss))
        if step % 50 == 0:
            rate = (seen - seen_at_begin) / (time.time() - begin)
            chance = math.log(o.batch)
            print(f'{step} seen {seen} {rate:.1f} pairs/s loss {np.mean(losses[-50:]):.3f} (chance {chance:.2f})', flush=True)
        if time.time() > next_save:
            next_save = time.time() + 240
            evaluate(model, tokenizer, held_pictures, held_described)
            state = {'M': model.state_dict(), 'opt': adam.state_dict(), 'it': step, 'n': seen, 'D': o.width, 'L': o.layers}
            torch.save(state, checkpoint + '.tmp')
            os.replace(checkpoint + '.tmp', checkpoint)


if __name__ == '__main__':
    main()
