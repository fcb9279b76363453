#!/usr/bin/env python3
"""Compares networks.py with the project's reference data, which the published codes computed: what the golden data rests on.

    python tests/data/golden/validate.py REFERENCE        (needs torch and safetensors)
"""
import json
import pathlib
import sys

import nvidia_pickle
import torch
from networks import *
from safetensors.torch import load_file

REFERENCE = pathlib.Path(sys.argv[1])
failures = 0


def doubles(tensors):
    return {k: v.double() for k, v in tensors.items() if torch.is_tensor(v) and v.is_floating_point()}


def file(name):
    return {k: v.double() if v.is_floating_point() else v for k, v in load_file(REFERENCE / name).items()}


def compare(name, have, want, atol, rtol=0.0):
    """`atol` is in units of the largest number wanted."""
    global failures
    have, want = torch.as_tensor(have, dtype=f64).detach(), torch.as_tensor(want, dtype=f64)
    have = have[: want.shape[0]] if want.dim() else have
    worst = ((have - want).abs() - rtol * want.abs()).max().item() / max(want.abs().max().item(), 1e-30)
    good = have.shape == want.shape and worst <= atol
    failures += not good
    print(f"{'ok   ' if good else 'WRONG'} {name}: {worst:.1e} of the largest, {atol:.0e} allowed")


def stylegan2():
    saved = torch.load(REFERENCE / "stylegan2_rosinality/tiny64.pt", map_location="cpu", weights_only=True)
    g = Generator(doubles(saved["g_ema"]) | {"latent_avg": saved["latent_avg"].double()})
    want, trace = file("stylegan2_rosinality/expected.safetensors"), {}
    w = g.map(want["z"])
    wplus = g.broadcast(w)
    compare("w", w, want["w"], 1e-6)
    compare("image_f64", g.draw(wplus, g.stored_noise(), trace), want["image_f64"], 1e-13)
    for key, value in trace.items():
        compare(key, value, want[key], 2e-6)
    compare("image_trunc07", g.draw(g.broadcast(g.truncate(w, 0.7)), g.stored_noise()), want["image_trunc07"], 5e-6)
    compare("image_zero_noise", g.draw(wplus), want["image_zero_noise"], 5e-6)
    second = g.broadcast(g.map(want["z2"]))
    compare("image_mix4", g.draw(mix(wplus, second, 4), g.stored_noise()), want["image_mix4"], 5e-6)
    leaves = {k: v.clone().requires_grad_() for k, v in g.t.items()}
    wplus = want["wplus"].clone().requires_grad_()
    image = Generator(leaves).draw(wplus, [n.detach() for n in g.stored_noise()])
    image.square().mean().backward()
    grads = file("stylegan2_rosinality/expected_grads.safetensors")
    for key, value in grads.items():
        name = key.removeprefix("grad.")
        if "wplus" in name:
            compare(key, wplus.grad, value, 1e-5)
        elif name in leaves and leaves[name].grad is not None:
            compare(key, leaves[name].grad, value, 1e-4)
    network = nvidia_pickle.load(REFERENCE / "stylegan2_nvidia/tiny64.pkl")["G_ema"]
    g = Generator(doubles(nvidia_pickle.state_dict(network)))
    want = file("stylegan2_nvidia/tiny64_expected.safetensors")
    w = g.map(want["z"])
    compare("nvidia: ws", g.broadcast(w), want["ws"], 2e-6)
    compare("nvidia: image_const", g.draw(g.broadcast(w), g.stored_noise()), want["image_const"], 5e-6)
    compare("nvidia: image_none", g.draw(g.broadcast(w)), want["image_none"], 5e-6)
    compare("nvidia: truncated", g.draw(g.broadcast(g.truncate(w, 0.7)), g.stored_noise()), want["image_trunc07_const"], 5e-6)


def tiny_vit():
    return Clip(openai_layout(doubles(load_file(REFERENCE / "clip/tiny_vit_hf/model.safetensors"))))


def clips():
    resnet = torch.load(REFERENCE / "clip/tiny_rn_openai_state_dict.pt", map_location="cpu", weights_only=True)
    for name, clip in (("vit", tiny_vit()), ("rn", Clip(doubles(resnet)))):
        want = file(f"clip/tiny_{name}_expected.safetensors")
        image = want["image"].requires_grad_()
        features, texts = clip.image(image), clip.text(want["tokens"].long())
        compare(f"{name}: image_features", features, want["image_features"], 2e-6)
        compare(f"{name}: text_features", texts, want["text_features"], 2e-6)
        compare(f"{name}: logits", clip.t["logit_scale"].exp() * unit(features) @ unit(texts).T, want["logits_per_image"], 5e-6)
        (features.flatten() * torch.arange(features.numel(), dtype=f64).cos()).sum().backward()
        compare(f"{name}: gradient", image.grad, want["grad_image_of_sum_f_cos_index"], 1e-5)


def token_of(word):
    """From the official tokeniser's table of examples."""
    for row in json.loads((REFERENCE / "clip/tokens.json").read_text())["rows"]:
        words = row["text"].split()
        if word in words and len(words) == len(row["bpe_ids"]):
            return row["bpe_ids"][words.index(word)]
    raise SystemExit(f"no example has {word}")


class Words:
    """Embeddings of 'photo' and 'sketch', by the reference's file and by the text tower."""

    def __init__(self, clip):
        self.losses = file("nada/losses.safetensors")
        self.photo, self.sketch = (self.losses[f"text_features_{w}"].mean(0) for w in ("photo", "sketch"))
        a, sketch = token_of("a"), token_of("sketch")
        self.target = unit(clip.text(torch.tensor([[49406, a, sketch, 49407]])))[0]
        self.bare = unit(clip.text(torch.tensor([[49406, sketch, 49407]])))[0]
        self.direction = unit(self.sketch - self.photo)


def losses():
    clip = tiny_vit()
    words = Words(clip)
    want = words.losses
    compare("text direction", words.direction, want["text_direction"][0], 1e-5)
    saved = torch.load(REFERENCE / "nada/tiny64_train.pt", map_location="cpu", weights_only=True)
    of = {
        "direction": lambda e0, e1: direction_loss(e0, e1, words.direction, 0.0),
        "global": lambda e0, e1: global_loss(e1, words.target),
        "manifold": lambda e0, e1: manifold_loss(e0, e1, unit(words.photo), unit(words.sketch)),
    }
    for name, loss in of.items():
        leaves = {k: v.clone().requires_grad_() for k, v in doubles(saved["g_ema"]).items()}
        g = Generator(leaves)
        image = g.draw(g.broadcast(want["w"]), [n.detach() for n in g.stored_noise()])
        image.retain_grad()
        value = loss(clip.see(want["frozen_img"]), clip.see(image))
        value.backward()
        compare(f"loss.{name}", value, want[f"loss.{name}"][0], 5e-6)
        compare(f"grad_img.{name}", image.grad, want[f"grad_img.{name}"], 1e-4)
        for key in want:
            if key.startswith(f"grad_param.{name}."):
                compare(key, leaves[key.split(".", 2)[2]].grad, want[key], 1e-4)


def run(name, weights, k):
    """The published loop, with its slips; see the README of the reference data. Compared where the reference was computed in float64 too."""
    clip = tiny_vit()
    words = Words(clip)
    draws, facts = file(f"nada/{name}.safetensors"), json.loads((REFERENCE / f"nada/{name}.json").read_text())
    frozen = torch.load(REFERENCE / "stylegan2_rosinality/tiny64.pt", map_location="cpu", weights_only=True)
    frozen = Generator(doubles(frozen["g_ema"]))
    start = torch.load(REFERENCE / "nada/tiny64_train.pt", map_location="cpu", weights_only=True)
    t = doubles(start["g_ema"])
    names = ["conv1.", "to_rgb1."] + [f"convs.{i}." for i in range(8)]
    adam = Adam(0.0016)
    for step, fact in enumerate(facts["steps"]):
        noise = [draws[f"step{step}.noise.{i:03}"] for i in range(len([d for d in draws if d.startswith(f"step{step}.noise.")]))]
        parameters = {key: v for key, v in t.items() if trained_by_default(key)}
        decayed = {}
        if k:
            change = layer_changes(Generator(t), frozen.broadcast(frozen.map(draws[f"step{step}.auto_z"])), [noise[:9]], clip, words.bare)
            rows = change.argsort(descending=True)[:k].tolist()
            compare(f"{name} {step}: chosen layers", torch.tensor(rows), torch.tensor(fact["chosen_layers"]), 0)
            noise = noise[9:]
            # The published loop's other gradients are 0, not absent: their moments decay.
            everything = {key: v for key, v in t.items() if not key.startswith(("noises.", "latent_avg")) and "kernel" not in key}
            parameters = {key: v for key, v in t.items() if key.startswith(tuple(names[row] for row in rows)) and key in everything}
            decayed = {key: v for key, v in everything.items() if key not in parameters}
        leaves = {key: v.clone().requires_grad_() for key, v in parameters.items()}
        wplus = frozen.broadcast(frozen.map(draws[f"step{step}.z"]))
        e0, e1 = clip.see(frozen.draw(wplus, noise[:9])), clip.see(Generator({**t, **leaves}).draw(wplus, noise[9:]))
        loss = weights[0] * direction_loss(e0, e1, words.direction, 0.0) + weights[1] * global_loss(e1, words.target)
        loss = loss + weights[2] * manifold_loss(e0, e1, unit(words.photo), unit(words.sketch))
        loss.backward()
        if "loss_float64" in fact:
            compare(f"{name} {step}: loss", loss, fact["loss_float64"], 1e-6)
        else:
            compare(f"{name} {step}: loss", loss, fact["loss"], 1e-5 if step < 3 else 1e-3)
        gradients = {key: v.grad for key, v in leaves.items()} | {key: torch.zeros_like(v) for key, v in decayed.items()}
        adam.step({key: v for key, v in t.items() if key in gradients}, gradients)


stylegan2()
clips()
losses()
run("run_direction", (1.0, 0.0, 0.0), 0)
run("run_auto_layers", (1.0, 0.5, 0.25), 3)
print(f"{failures} differ" if failures else "all agree")
sys.exit(failures > 0)
