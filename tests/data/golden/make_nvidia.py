#!/usr/bin/env python3
"""Writes nvidia_z40_w56.pkl, a generator of 32 px in NVIDIA's pickle whose z has 40 numbers and whose w has 56 (as StyleGAN-XL's have 64
and 512), and nvidia_z40_w56.safetensors, what networks.py draws with it.

    python tests/data/golden/make_nvidia.py        (needs torch and safetensors)
"""
import pathlib

import nvidia_pickle
import torch
from networks import Generator, blur_taps, f64
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent
Z, W, CHANNELS = 40, 56, {4: 12, 8: 12, 16: 8, 32: 6}


def tensors(random):
    """Nothing is zero or one that a reader might forget: biases, noise strengths, the mean of w."""
    def normal(*shape, scale=1.0, mean=0.0):
        # As the file keeps it.
        return (torch.randn(shape, generator=random, dtype=f64) * scale + mean).float().double()
    t = {"mapping.w_avg": normal(W, scale=0.3)}
    for i, inputs in enumerate((Z, W, W)):
        t[f"mapping.fc{i}.weight"], t[f"mapping.fc{i}.bias"] = normal(W, inputs, scale=100.0), normal(W, scale=10.0)
    inputs = None
    for side, outputs in CHANNELS.items():
        block = f"synthesis.b{side}"
        t[f"{block}.resample_filter"] = blur_taps()
        if inputs is None:
            t[f"{block}.const"] = normal(outputs, 4, 4)
        layers = [("conv1", outputs, outputs, 3), ("torgb", outputs, 3, 1)]
        for name, fan, out, k in ([("conv0", inputs, outputs, 3)] if inputs else []) + layers:
            key = f"{block}.{name}"
            t[f"{key}.weight"], t[f"{key}.bias"] = normal(out, fan, k, k), normal(out, scale=0.2)
            t[f"{key}.affine.weight"], t[f"{key}.affine.bias"] = normal(fan, W), normal(fan, scale=0.2, mean=1.0)
            if k == 3:
                t[f"{key}.noise_strength"] = normal(scale=0.3)
                t[f"{key}.noise_const"] = normal(side, side)
        inputs = outputs
    return t


def main():
    random = torch.Generator().manual_seed(4056)
    t = tensors(random)
    path = FOLDER / "nvidia_z40_w56.pkl"
    nvidia_pickle.save(path, nvidia_pickle.network_file(nvidia_pickle.generator(t, Z, W, CHANNELS)))
    # From the file, so that what was written is what is drawn.
    read = {k: v.double() for k, v in nvidia_pickle.state_dict(nvidia_pickle.load(path)["G_ema"]).items()}
    assert all(torch.equal(read[k], t[k]) for k in t), "the file holds the numbers that it was made of"
    g = Generator(read)
    z = torch.randn((2, Z), generator=random, dtype=f64).float().double()
    w = g.map(z)
    truncated = g.truncate(w, 0.7)
    draw = lambda w, noise: g.draw(g.broadcast(w), noise)
    expected = {
        "z": z, "w": w, "w_trunc07": truncated, "image_const": draw(w, g.stored_noise()), "image_none": draw(w, None),
        "image_trunc07_const": draw(truncated, g.stored_noise()),
    }
    # Computed in float64; kept in float32, whose rounding is a hundredth of what is tolerated.
    save_file({k: v.float().contiguous() for k, v in expected.items()}, FOLDER / "nvidia_z40_w56.safetensors")


main()
