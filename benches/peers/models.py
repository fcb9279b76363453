"""Random networks of the published sizes, and the inputs of all rows, written once: `models.py FOLDER [--quick]`."""
import argparse
import math
import os
import pathlib

import torch
from safetensors.torch import save_file

import networks


def channels(side):
    """Of config-f."""
    return min(32768 // side, 512)


def generator(side, channels, style):
    t = {}
    for i in range(1, 9):
        # The learning-rate multiplier is 0.01.
        t[f"style.{i}.weight"], t[f"style.{i}.bias"] = torch.randn(style, style) * 100, torch.zeros(style)
    t["input.input"] = torch.randn(1, channels(4), 4, 4)

    def layer(name, outputs, inputs, kernel):
        t[f"{name}.conv.weight"] = torch.randn(1, outputs, inputs, kernel, kernel)
        t[f"{name}.conv.modulation.weight"], t[f"{name}.conv.modulation.bias"] = torch.randn(inputs, style), torch.ones(inputs)
        if kernel == 3:
            t[f"{name}.noise.weight"], t[f"{name}.activate.bias"] = torch.full((1,), 0.1), torch.zeros(outputs)
        else:
            t[f"{name}.bias"] = torch.zeros(1, outputs, 1, 1)

    layer("conv1", channels(4), channels(4), 3)
    layer("to_rgb1", 3, channels(4), 1)
    for i, level in enumerate(range(3, side.bit_length())):
        of = channels(1 << level)
        layer(f"convs.{2 * i}", of, channels(1 << level - 1), 3)
        layer(f"convs.{2 * i + 1}", of, of, 3)
        layer(f"to_rgbs.{i}", 3, of, 1)
    for i, noise in enumerate(networks.noise_maps(side)):
        t[f"noises.noise_{i}"] = noise
    t["latent_avg"] = networks.mapping(t, torch.randn(4096, style)).mean(0)
    return t


def tower(t, name, width, layers):
    small, out = width ** -0.5, width ** -0.5 * (2 * layers) ** -0.5
    for i in range(layers):
        b = f"{name}.resblocks.{i}"
        t[f"{b}.attn.in_proj_weight"], t[f"{b}.attn.in_proj_bias"] = torch.randn(3 * width, width) * small, torch.zeros(3 * width)
        t[f"{b}.attn.out_proj.weight"], t[f"{b}.attn.out_proj.bias"] = torch.randn(width, width) * out, torch.zeros(width)
        t[f"{b}.mlp.c_fc.weight"], t[f"{b}.mlp.c_fc.bias"] = torch.randn(4 * width, width) * (2 * width) ** -0.5, torch.zeros(4 * width)
        t[f"{b}.mlp.c_proj.weight"], t[f"{b}.mlp.c_proj.bias"] = torch.randn(width, 4 * width) * out, torch.zeros(width)
        for part in ("ln_1", "ln_2"):
            t[f"{b}.{part}.weight"], t[f"{b}.{part}.bias"] = torch.ones(width), torch.zeros(width)


def clip(patch, side=224, width=768, layers=12, text_width=512, text_layers=12, embedding=512):
    """In OpenAI's layout, whose tokenizer and sizes need no files beside it."""
    t = {}
    t["visual.conv1.weight"] = torch.randn(width, 3, patch, patch) / math.sqrt(3 * patch * patch)
    t["visual.class_embedding"] = torch.randn(width) * width ** -0.5
    t["visual.positional_embedding"] = torch.randn((side // patch) ** 2 + 1, width) * width ** -0.5
    t["visual.proj"] = torch.randn(width, embedding) * width ** -0.5
    tower(t, "visual.transformer", width, layers)
    tower(t, "transformer", text_width, text_layers)
    for name, size in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text_width)):
        t[f"{name}.weight"], t[f"{name}.bias"] = torch.ones(size), torch.zeros(size)
    t["token_embedding.weight"] = torch.randn(49408, text_width) * 0.02
    t["positional_embedding"] = torch.randn(77, text_width) * 0.01
    t["text_projection"] = torch.randn(text_width, embedding) * text_width ** -0.5
    t["logit_scale"] = torch.tensor(math.log(100))
    return t


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    a = parser.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)

    def write(name, make):
        path = a.folder / f"{name}.safetensors"
        torch.manual_seed(1)
        if not path.exists():
            print(f"writing {path}", flush=True)
            part = path.with_suffix(".part")
            save_file({key: value.contiguous() for key, value in make().items()}, part)
            os.replace(part, path)

    # Sizes that differ, so that rows of 256 and 1024 px are not the same program.
    sizes = {"256": 32, "1024": 64} if a.quick else {"256": 256, "1024": 1024}
    style = 64 if a.quick else 512
    for name, side in sizes.items():
        write(f"generator-{name}", lambda: generator(side, (lambda s: 32) if a.quick else channels, style))

        def inputs():
            rows = 2 * side.bit_length() - 4
            # What a generator of random weights draws has a deviation of about 1.
            t = {"latent": torch.randn(1, 1, style).repeat(1, rows, 1), "target": (torch.randn(1, 3, side // 8, side // 8) * 0.5).clamp(-1, 1)}
            t["target"] = t["target"].repeat_interleave(8, 2).repeat_interleave(8, 3)
            return t | {"clip": torch.randn(2, 3, 64, 64) if a.quick else torch.randn(2, 3, 224, 224)}

        write(f"inputs-{name}", inputs)
    tiny = {"side": 64, "width": 64, "layers": 2, "text_width": 64, "text_layers": 2, "embedding": 64}
    for name, patch in (("b32", 32), ("b16", 16)):
        write(f"clip-{name}", lambda: clip(patch, **tiny if a.quick else {}))


if __name__ == "__main__":
    main()
