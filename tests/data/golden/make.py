#!/usr/bin/env python3
"""Writes the golden data that tests/golden.rs compares the library with: small networks of random weights, and what networks.py computes
with them in float64.

    python tests/data/golden/make.py        (needs torch, safetensors, numpy and Pillow)
"""
import json
import math
import pathlib

import numpy
import torch
from PIL import Image
from networks import *
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent
random = torch.Generator().manual_seed(15)
SIZE, W, CHANNELS = 32, 16, {4: 10, 8: 10, 16: 8, 32: 6}
TEMPLATES = ["{}", "a picture of {}"]
SOURCE, TARGET = "photo", "sketch"
RATE = 0.002 * 0.8


def normal(*shape, scale=1.0, mean=0.0, half=False):
    """Random numbers that float32 (or float16) holds."""
    x = torch.randn(shape, generator=random, dtype=f64) * scale + mean
    return (x.half() if half else x.float()).double()


def save(name, tensors, half=False):
    # Floats are computed in float64 and kept in float32.
    kept = {k: (v.half() if half else v.float()) if v.is_floating_point() else v for k, v in tensors.items()}
    save_file({k: v.detach().contiguous() for k, v in kept.items()}, FOLDER / name)
    (FOLDER / name).chmod(0o644)


# ---- networks -----------------------------------------------------------------------------------------------------------------------

def generator_tensors():
    t = {"latent_avg": normal(W, scale=0.3), "input.input": normal(1, CHANNELS[4], 4, 4)}
    for i in (1, 2):
        t[f"style.{i}.weight"], t[f"style.{i}.bias"] = normal(W, W, scale=100.0), normal(W, scale=10.0)

    def layer(name, out, inputs, k):
        t[f"{name}.conv.weight"] = normal(1, out, inputs, k, k)
        t[f"{name}.conv.modulation.weight"], t[f"{name}.conv.modulation.bias"] = normal(inputs, W), normal(inputs, scale=0.2, mean=1.0)
        if k == 3:
            t[f"{name}.noise.weight"], t[f"{name}.activate.bias"] = normal(1, scale=0.2), normal(out, scale=0.2)
        else:
            t[f"{name}.bias"] = normal(1, 3, 1, 1, scale=0.2)

    noise = []
    for i, (side, out) in enumerate(CHANNELS.items()):
        if i == 0:
            layer("conv1", out, out, 3)
            layer("to_rgb1", 3, out, 1)
        else:
            layer(f"convs.{2 * i - 2}", out, CHANNELS[side // 2], 3)
            layer(f"convs.{2 * i - 1}", out, out, 3)
            layer(f"to_rgbs.{i - 1}", 3, out, 1)
        noise += [side] * (2 if i else 1)
    for i, side in enumerate(noise):
        t[f"noises.noise_{i}"] = normal(1, 1, side, side)
    for i in range(len(CHANNELS) - 1):
        t[f"convs.{2 * i}.conv.blur.kernel"] = t[f"to_rgbs.{i}.upsample.kernel"] = 4.0 * blur_taps()
    return t


def perturbed(t):
    """Where the trained twin starts: apart from the frozen one, so that there is a direction between their pictures."""
    shake = lambda v: (v * (1 + 0.15 * torch.randn(v.shape, generator=random, dtype=f64))).float().double()
    return {k: shake(v) if trained_by_default(k) else v for k, v in t.items()}


def tower(t, prefix, width, layers, hidden):
    for i in range(layers):
        name = f"{prefix}.resblocks.{i}"
        linear(t, f"{name}.attn.out_proj", width, width)
        t[f"{name}.attn.in_proj_weight"] = normal(3 * width, width, scale=2 * width**-0.5, half=True)
        t[f"{name}.attn.in_proj_bias"] = normal(3 * width, scale=0.1, half=True)
        linear(t, f"{name}.mlp.c_fc", hidden, width)
        linear(t, f"{name}.mlp.c_proj", width, hidden)
        norm(t, f"{name}.ln_1", width)
        norm(t, f"{name}.ln_2", width)


def linear(t, name, out, inputs):
    t[f"{name}.weight"], t[f"{name}.bias"] = normal(out, inputs, scale=inputs**-0.5, half=True), normal(out, scale=0.1, half=True)


def norm(t, name, width):
    t[f"{name}.weight"], t[f"{name}.bias"] = normal(width, scale=0.1, mean=1.0, half=True), normal(width, scale=0.1, half=True)


def text_tower(t, width, layers, hidden, vocabulary, context, embedding):
    t["token_embedding.weight"] = normal(vocabulary, width, scale=0.5, half=True)
    t["positional_embedding"] = normal(context, width, scale=0.2, half=True)
    tower(t, "transformer", width, layers, hidden)
    norm(t, "ln_final", width)
    t["text_projection"] = normal(width, embedding, scale=width**-0.5, half=True)
    t["logit_scale"] = torch.tensor(math.log(100.0), dtype=f64).half().double()


def vit_tensors():
    """A vision transformer of 32 px in OpenAI's layout. Both towers have 2 heads of 16."""
    t, width, patch, embedding = {}, 32, 8, 24
    t["visual.conv1.weight"] = normal(width, 3, patch, patch, scale=0.1, half=True)
    t["visual.class_embedding"] = normal(width, half=True)
    t["visual.positional_embedding"] = normal((SIZE // patch) ** 2 + 1, width, scale=0.3, half=True)
    norm(t, "visual.ln_pre", width)
    norm(t, "visual.ln_post", width)
    tower(t, "visual.transformer", width, 2, 64)
    t["visual.proj"] = normal(width, embedding, scale=width**-0.5, half=True)
    text_tower(t, 32, 2, 64, 514, 40, embedding)
    return t


def hugging_face(t):
    """transformers' names of a vision transformer's tensors: openai_layout the other way round."""
    out = {
        "logit_scale": t["logit_scale"], "visual_projection.weight": t["visual.proj"].T, "text_projection.weight": t["text_projection"].T,
        "vision_model.embeddings.patch_embedding.weight": t["visual.conv1.weight"],
        "vision_model.embeddings.class_embedding": t["visual.class_embedding"],
        "vision_model.embeddings.position_embedding.weight": t["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": t["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": t["positional_embedding"],
    }
    for ours, theirs in (("visual.ln_pre", "vision_model.pre_layrnorm"), ("visual.ln_post", "vision_model.post_layernorm"),
                         ("ln_final", "text_model.final_layer_norm")):
        for kind in ("weight", "bias"):
            out[f"{theirs}.{kind}"] = t[f"{ours}.{kind}"]
    for ours, theirs in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
        for key, value in t.items():
            if not key.startswith(f"{ours}.resblocks."):
                continue
            i, rest = key.removeprefix(f"{ours}.resblocks.").split(".", 1)
            base = f"{theirs}.encoder.layers.{i}"
            if rest.startswith("attn.in_proj_"):
                for part, third in zip("qkv", value.chunk(3)):
                    out[f"{base}.self_attn.{part}_proj.{rest.removeprefix('attn.in_proj_')}"] = third
                continue
            for a, b in (("attn.", "self_attn."), ("ln_", "layer_norm"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
                rest = rest.replace(a, b)
            out[f"{base}.{rest}"] = value
    back = openai_layout(out)
    assert all(torch.equal(back[k], t[k]) for k in t), "the two layouts hold the same"
    return out


def resnet_tensors():
    """A modified ResNet of 64 px with stages of 1, 2, 1 and 1 blocks."""
    t, width, embedding = {}, 2, 24

    def conv(name, bn, out, inputs, k):
        t[f"{name}.weight"] = normal(out, inputs, k, k, scale=1.4 * (inputs * k * k) ** -0.5, half=True)
        norm(t, bn, out)
        t[f"{bn}.running_mean"] = normal(out, scale=0.2, half=True)
        t[f"{bn}.running_var"] = (normal(out, scale=0.2, half=True).abs() + 0.8).half().double()

    stem = width // 2
    for i, (out, inputs) in enumerate(((stem, 3), (stem, stem), (width, stem)), 1):
        conv(f"visual.conv{i}", f"visual.bn{i}", out, inputs, 3)
    inputs = width
    for stage, blocks in enumerate((1, 2, 1, 1), 1):
        planes = width << (stage - 1)
        for i in range(blocks):
            name = f"visual.layer{stage}.{i}"
            conv(f"{name}.conv1", f"{name}.bn1", planes, inputs, 1)
            conv(f"{name}.conv2", f"{name}.bn2", planes, planes, 3)
            conv(f"{name}.conv3", f"{name}.bn3", 4 * planes, planes, 1)
            if i == 0:
                conv(f"{name}.downsample.0", f"{name}.downsample.1", 4 * planes, inputs, 1)
            inputs = 4 * planes
    t["visual.attnpool.positional_embedding"] = normal(2 * 2 + 1, inputs, scale=0.2, half=True)
    for part, out in (("q", inputs), ("k", inputs), ("v", inputs), ("c", embedding)):
        linear(t, f"visual.attnpool.{part}_proj", out, inputs)
    text_tower(t, 64, 1, 64, 48, 12, embedding)
    return t


# ---- words: bytes, the last of a word apart, no merges ------------------------------------------------------------------------------

def byte_order():
    """The bytes in the order of CLIP's vocabulary, each with the letter that stands for it: printable ones are themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return printable + others, [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def vocabulary():
    letters = byte_order()[1]
    words = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}


def tokens(texts):
    """Of lower-case letters and spaces."""
    place = {b: i for i, b in enumerate(byte_order()[0])}
    rows = []
    for text in texts:
        row = [512]
        for word in text.split():
            ids = [place[b] for b in word.encode()]
            row += ids[:-1] + [ids[-1] + 256]
        rows.append(row + [513])
    longest = max(map(len, rows))
    # What stands behind the end is not looked at.
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


# ---- expected values ----------------------------------------------------------------------------------------------------------------

def waves(*shape):
    """Numbers that every language computes alike."""
    return torch.arange(math.prod(shape), dtype=f64).cos().reshape(shape)


def of_generator(t):
    g, out, trace = Generator(t), {}, {}
    out["z"] = normal(2, W)
    out["w"] = g.map(out["z"])
    stored = g.stored_noise()
    out["image"] = g.draw(g.broadcast(out["w"]), stored, trace)
    out["image_none"] = g.draw(g.broadcast(out["w"][:1]))
    out["image_trunc07"] = g.draw(g.broadcast(g.truncate(out["w"][:1], 0.7)), stored)
    out |= {k: v[:1] for k, v in trace.items() if v[:1].numel() <= 2048}
    # Gradients of a function that weighs every pixel differently, at a W+ of its own rows.
    leaves = {k: v.clone().requires_grad_() for k, v in t.items()}
    wplus = normal(1, g.rows, W).requires_grad_()
    image = Generator(leaves).draw(wplus, [n.detach() for n in stored])
    (image * waves(*image.shape)).sum().backward()
    out["wplus"], out["grad.wplus"] = wplus, wplus.grad
    out |= {f"grad.{k}": sampled(v.grad) for k, v in leaves.items() if v.grad is not None}
    save("generator_expected.safetensors", out)
    return out["image"].detach()


def of_clip(clip, image, token_ids, every):
    out = {"image": image, "tokens": token_ids.int()}
    image = image.clone().requires_grad_()
    out["image_features"], out["text_features"] = clip.image(image), clip.text(token_ids)
    out["logits"] = clip.t["logit_scale"].exp() * unit(out["image_features"]) @ unit(out["text_features"]).T
    (out["image_features"] * waves(*out["image_features"].shape)).sum().backward()
    out["gradient"] = image.grad.flatten()[::every]
    return out


class Words:
    """What the losses compare with, of one CLIP."""

    def __init__(self, clip):
        embed = lambda texts: unit(clip.text(tokens(texts)))
        self.photo, self.sketch = (embed([t.replace("{}", word) for t in TEMPLATES]).mean(0) for word in (SOURCE, TARGET))
        self.direction = unit(self.sketch - self.photo)
        self.with_article, self.bare = embed([f"a {TARGET}"])[0], embed([TARGET])[0]


ONLY = dict.fromkeys(("direction", "global", "manifold", "in_domain", "structure"), 0.0)


def loss_of(weights, words, mode, before, after, clip):
    """Structure is no loss of CLIP's, and has no CLIP here where it is left out."""
    e0, e1 = clip.see(before), clip.see(after)
    target = words.with_article if mode == "reference" else unit(words.sketch)
    terms = {
        "direction": lambda: direction_loss(e0, e1, words.direction, 0.0 if mode == "reference" else 0.3),
        "global": lambda: global_loss(e1, target),
        "manifold": lambda: manifold_loss(e0, e1, unit(words.photo), unit(words.sketch)),
        "in_domain": lambda: in_domain_loss(e0, e1),
        "structure": lambda: structure_loss(before, after, 0.9),
    }
    return sum(weight * terms[name]() for name, weight in weights.items() if weight)


def of_losses(frozen, start, clip, words):
    """Losses in CLIP's space and their gradients with respect to the trained twin's pictures, for given pairs of pictures."""
    wplus = Generator(frozen).broadcast(Generator(frozen).map(normal(3, W)))
    before = Generator(frozen).draw(wplus).float().double()
    after = Generator(start).draw(wplus).float().double()
    out = {"before": before, "after": after}
    cases = {f"{mode}.{name}": (mode, ONLY | {name: 1.0}) for mode in ("reference", "default") for name in ("direction", "global", "manifold")}
    # The library wants a loss that pulls towards the target beside this one.
    cases["default.in_domain"] = ("default", ONLY | {"direction": 0.001, "in_domain": 1.0})
    # The edits are shorter than the floor of the default mode here.
    near = before + 0.02 * (after - before)
    cases["near.direction"] = ("default", ONLY | {"direction": 1.0})
    for name, (mode, weights) in cases.items():
        leaf = (near if name.startswith("near") else after).clone().requires_grad_()
        loss = loss_of(weights, words, mode, before, leaf, clip)
        loss.backward()
        out[f"{name}.loss"], out[f"{name}.gradient"] = loss.reshape(1), leaf.grad.flatten()[::23]
    short = (clip.see(near) - clip.see(before)).norm(dim=-1)
    assert (short < 0.3).all(), f"edits of {short}"
    save("losses.safetensors", out)


def noise_maps():
    return [normal(1, 1, side, side, half=True) for side in (4, 8, 8, 16, 16, 32, 32)]


def sampled(tensor):
    """Large tensors keep every fifth number."""
    flat = tensor.flatten()
    return flat[::5] if flat.numel() > 100 else flat


# name: mode, what is trained, losses, batch, rest. Two steps each: after one, Adam has moved everything by the rate along the sign.
RUNS = {
    "reference": ("reference", "full", ONLY | {"direction": 1.0, "global": 0.5, "manifold": 0.25}, 2, {"noise", "mixing"}),
    "reference_layers": ("reference", "full", ONLY | {"direction": 1.0}, 2, {"noise", "layers"}),
    "default": (
        "default", "full", {"direction": 1.0, "global": 0.5, "manifold": 0.25, "in_domain": 2.0, "structure": 3.0}, 5,
        {"noise", "mixing", "decay"},
    ),
    "default_layers": ("default", "full", ONLY | {"direction": 1.0}, 2, {"layers"}),
    "direction": ("default", "stylespace", ONLY | {"direction": 1.0}, 4, set()),
    "global": ("default", "stylespace", ONLY | {"global": 1.0}, 4, set()),
    "manifold": ("default", "stylespace", ONLY | {"manifold": 1.0}, 4, set()),
    "in_domain": ("default", "stylespace", ONLY | {"direction": 0.001, "in_domain": 1.0}, 4, set()),
    "structure": ("default", "stylespace", ONLY | {"direction": 0.001, "structure": 1.0}, 4, set()),
}
STEPS = 2
# Of layer selection: layers, latents that score them.
K, SCORED = 2, 3


def of_run(name, frozen_tensors, start, clip, words):
    mode, trained, weights, batch, rest = RUNS[name]
    frozen = Generator(frozen_tensors)
    t = {k: v.clone() for k, v in start.items()}
    offsets = {}
    if trained == "stylespace":
        offsets = {layer: torch.zeros(frozen.get(layer, "conv.modulation.bias").shape, dtype=f64) for layer, _, _ in frozen.layers}
        own = lambda key: False
    else:
        own = trained_by_default
    adam, out = Adam(RATE), {}
    published = ["conv1", "to_rgb1"] + [c for c in frozen.convolutions if c != "conv1"]
    for step in range(STEPS):
        put = lambda key, value: out.setdefault(f"{name}.{step}.{key}", value)
        everything = {k: v for k, v in t.items() if own(k)} | {f"s.{k}": v for k, v in offsets.items()}
        chosen = everything
        if "layers" in rest:
            target = words.bare if mode == "reference" else unit(words.sketch)
            # The published code takes row j for convs.(j - 2), and 1 for to_rgb1; the convolution that reads row j is convs.(j - 1).
            layer_of = dict(enumerate(published if mode == "reference" else frozen.convolutions))
            gap = 0.0
            while gap < 0.05:
                # Until it is clear which are chosen.
                z = normal(SCORED, W, half=True)
                maps = [noise_maps()] if "noise" in rest else [None, None]
                change = layer_changes(Generator(t), frozen.broadcast(frozen.map(z)), maps, clip, target)
                order = [row for row in change.argsort(descending=True).tolist() if row in layer_of]
                gap = min(change[a] / change[b] - 1 for a, b in zip(order[:K], order[1:]))
            put("selection.z", z)
            for i, set_ in enumerate(maps if "noise" in rest else []):
                for j, m in enumerate(set_):
                    put(f"selection.noise.{i}.{j}", m)
            put("rows", torch.tensor(order[:K]).int())
            layers = tuple(layer_of[row] + "." for row in order[:K])
            chosen = {k: v for k, v in t.items() if k.startswith(layers) and "kernel" not in k}
        z = put("z", normal(batch, W, half=True))
        first = second = frozen.broadcast(frozen.map(z))
        if "mixing" in rest:
            z2 = put("mixing.z", normal(batch, W, half=True))
            rows = [3, 5] if mode == "reference" else [4, 4]
            put("mixing.rows", torch.tensor(rows).int())
            other = frozen.broadcast(frozen.map(z2))
            first, second = (mix(first, other, row) for row in rows)
        noise = [None, None]
        if "noise" in rest:
            noise[0] = noise_maps()
            noise[1] = noise_maps() if mode == "reference" else noise[0]
            for twin in (0, 1) if mode == "reference" else (0,):
                for j, m in enumerate(noise[twin]):
                    put(f"noise.{twin}.{j}", m)
        leaves = {k: v.clone().requires_grad_() for k, v in chosen.items()}
        twin = Generator(
            {**t, **{k: v for k, v in leaves.items() if not k.startswith("s.")}},
            {k[2:]: v for k, v in leaves.items() if k.startswith("s.")},
        )
        loss = loss_of(weights, words, mode, frozen.draw(first, noise[0]), twin.draw(second, noise[1]), clip)
        loss.backward()
        put("loss", loss.reshape(1))
        # Without noise its strengths have no gradient.
        gradients = {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in leaves.items()}
        if mode == "reference" and "layers" in rest:
            # Layers that are left out see a gradient of 0.
            others = {k: v for k, v in t.items() if own(k) or k.startswith("to_rgb1")}
            gradients = {k: torch.zeros_like(v) for k, v in others.items()} | gradients
        parameters = {k: (offsets[k[2:]] if k.startswith("s.") else t[k]) for k in gradients}
        adam.step(parameters, gradients, RATE * (1 - step / STEPS) if "decay" in rest else None)
        for k, g in gradients.items():
            # A number whose gradient was nearly 0 in any step may have gone the other way: it is not compared closely.
            scale = g.abs().max().clamp(min=1e-30)
            steady = sampled(g.abs() > 1e-3 * scale)
            out[f"{name}.steady.{k}"] = out.get(f"{name}.steady.{k}", torch.ones_like(steady)) & (steady | sampled(g == 0))
    for k in {k.split(".steady.")[1] for k in out if ".steady." in k}:
        before = torch.zeros_like(offsets[k[2:]]) if k.startswith("s.") else frozen_tensors[k]
        out[f"{name}.delta.{k}"] = sampled((offsets[k[2:]] if k.startswith("s.") else t[k]) - before)
        out[f"{name}.steady.{k}"] = out[f"{name}.steady.{k}"].byte()
    return out


# ---- inversion ----------------------------------------------------------------------------------------------------------------------

def of_inversion(t, clip, target):
    """Eight steps: six in W from the mean, two in W+ at a tenth of the rate; each search's rate rises, and falls over its last half."""
    g, steps, w_steps, rate, clip_weight = Generator(t), 8, 6, 0.1, 0.1

    def ramp(at):
        return min(1.0, at / 0.05 + 0.1) * (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - at) / 0.5)))

    out = {"target": target}
    wanted = clip.see(target)
    latent, adam, losses, best = t["latent_avg"][None].clone(), Adam(rate, (0.9, 0.999)), [], None
    for step in range(steps):
        if step == w_steps:
            latent, adam = g.broadcast(latent).clone(), Adam(rate, (0.9, 0.999))
        leaf = latent.clone().requires_grad_()
        wplus = leaf if leaf.dim() == 3 else g.broadcast(leaf)
        image = g.draw(wplus)
        loss = pyramid_loss(image, target, 1.0) + clip_weight * (1 - (clip.see(image) * wanted).sum())
        loss.backward()
        losses.append(loss.item())
        if best is None or loss.item() < best[0]:
            best = (loss.item(), wplus.detach().clone())
        now = rate * ramp(step / w_steps) if step < w_steps else rate * 0.1 * ramp((step - w_steps) / (steps - w_steps))
        adam.step({"latent": latent}, {"latent": leaf.grad}, now)
    out["losses"], out["best"], out["wplus"] = torch.tensor(losses, dtype=f64), torch.tensor([best[0]], dtype=f64), best[1]
    save("inversion.safetensors", out)


# ---- pictures as a CLIP sees them ---------------------------------------------------------------------------------------------------

def of_resizing():
    """waves(1, 3, 20, 28) as CLIP of 16 px gets it, by PyTorch's resampling: with a low-pass (a = -0.5) and without (a = -0.75). And bytes
    (i * i * 31 + i * 7) % 256 as a picture of 28 x 20, by Pillow's. Both less their outermost columns, to a square."""
    out, square = {}, lambda x: x[..., 3:19]
    x = waves(1, 3, 20, 28)
    for name, antialias in (("antialias", True), ("aliased", False)):
        y = F.interpolate((x + 1) / 2, size=(16, 22), mode="bicubic", antialias=antialias, align_corners=False)
        out[name] = (square(y) - MEAN) / STD
    i = numpy.arange(20 * 28 * 3)
    picture = Image.fromarray(((i * i * 31 + i * 7) % 256).astype(numpy.uint8).reshape(20, 28, 3))
    small = torch.from_numpy(numpy.array(picture.resize((22, 16), Image.BICUBIC))).permute(2, 0, 1)[None]
    out["bytes"] = (square(small) / 255.0 - MEAN) / STD
    save("resized.safetensors", out)


def main():
    frozen = generator_tensors()
    start = perturbed(frozen)
    save("generator.safetensors", frozen)
    save("start.safetensors", {k: v for k, v in start.items() if trained_by_default(k)})
    pictures = of_generator(frozen)

    tensors = vit_tensors()
    (FOLDER / "clip").mkdir(exist_ok=True)
    save("clip/model.safetensors", hugging_face(tensors), half=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "quick_gelu",
             "layer_norm_eps": 1e-5, "projection_dim": 24}
    config = {
        "model_type": "clip", "projection_dim": 24, "logit_scale_init_value": 2.6592,
        "text_config": sizes | {"vocab_size": 514, "max_position_embeddings": 40, "bos_token_id": 512, "eos_token_id": 513},
        "vision_config": sizes | {"image_size": SIZE, "patch_size": 8, "num_channels": 3},
    }
    for name, text in (("config.json", json.dumps(config, indent=1)), ("merges.txt", "#version: 0.2\n"), ("vocab.json", json.dumps(vocabulary()))):
        (FOLDER / "clip" / name).write_text(text)
    clip = Clip(tensors, heads=2)
    texts = [t.replace("{}", word) for word in (SOURCE, TARGET) for t in TEMPLATES]
    save("clip_expected.safetensors", of_clip(clip, ((pictures + 1) / 2 - MEAN) / STD, tokens(texts), 3))

    tensors = resnet_tensors()
    save("resnet.safetensors", tensors, half=True)
    ids = torch.tensor([[46, 3, 5, 8, 47, 0], [46, 9, 47, 0, 0, 0]])
    # The picture is not kept: it is waves(1, 3, 64, 64).
    expected = of_clip(Clip(tensors), waves(1, 3, 64, 64), ids, 11)
    del expected["image"]
    save("resnet_expected.safetensors", expected)

    words = Words(clip)
    of_losses(frozen, start, clip, words)
    runs = {}
    for name in RUNS:
        runs |= of_run(name, frozen, start, clip, words)
    # Random inputs in float16, which holds them.
    given = {k: v for k, v in runs.items() if ".noise." in k or k.endswith(".z")}
    save("runs_given.safetensors", given, half=True)
    save("runs_expected.safetensors", {k: v for k, v in runs.items() if k not in given})

    g = Generator(frozen)
    wplus = g.broadcast(g.truncate(g.map(normal(1, W)), 0.6)) + normal(1, g.rows, W, scale=0.1)
    # A picture of 8 bits.
    target = ((g.draw(wplus).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    of_inversion(frozen, clip, target)
    of_resizing()


main()
