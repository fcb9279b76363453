"""The peer's side of scripts/peers: one row of its table in a process of its own. Prints one line of JSON with `seconds` of each repetition and
`peak`, the process's peak memory in bytes.

The adaptation step is the published recipe (Gal et al. 2021, arXiv 2108.00946): pictures of the frozen and of the trained generator of the same
latents, each with noise of its own; CLIP's embeddings of both; 1 - cos of the edit and the texts' direction; backward pass; Adam. The inversion step
is ours (src/invert): Adam on W, squared distance of the picture and of its averages over 2 to 16 pixels."""
import argparse
import json
import re
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import networks


def generator_of(path):
    """Weights, noise maps, mean of w."""
    t = load_file(path)
    noise = [t.pop(f"noises.noise_{i}") for i in range(sum(key.startswith("noises.") for key in t))]
    mean = t.pop("latent_avg")
    return t, noise, mean


def clock(a, work):
    seconds = []
    for i in range(a.warm + a.times):
        begin = time.perf_counter()
        work()
        if i >= a.warm:
            seconds.append(time.perf_counter() - begin)
    return seconds


def gemm(a):
    n = 2048
    x, y = torch.randn(n, n), torch.randn(n, n)
    seconds = clock(a, lambda: torch.mm(x, y))
    return {"seconds": seconds, "gflops": 2 * n ** 3 / min(seconds) * 1e-9}


def compiled(a, function):
    return torch.compile(function, dynamic=False) if a.compile else function


def forward(a):
    weights, noise, _ = generator_of(a.generator)
    latent = load_file(a.inputs)["latent"]
    draw = compiled(a, networks.Synthesis(a.grouped, a.channels_last))
    with torch.inference_mode(not a.compile), torch.no_grad():
        return {"seconds": clock(a, lambda: draw(weights, latent, noise))}


def embed(a):
    weights, x = load_file(a.clip[0]), load_file(a.inputs)["clip"]
    see = compiled(a, networks.embed_pictures)
    with torch.inference_mode(not a.compile), torch.no_grad():
        return {"seconds": clock(a, lambda: see(weights, x))}


def direction(clip, tokens):
    """From the first half of the texts to the second."""
    with torch.inference_mode():
        source, target = (F.normalize(networks.embed_texts(clip, part), dim=1).mean(0) for part in tokens.chunk(2))
    return F.normalize(target - source, dim=0).clone()


def twins(a):
    """The frozen generator's weights, the trained one's, what trains it."""
    frozen, noise, _ = generator_of(a.generator)
    trained = {key: value.clone().requires_grad_() for key, value in frozen.items()}
    return frozen, trained, torch.optim.Adam(trained.values(), lr=0.0016, betas=(0.0, 0.99 ** 0.8), fused=True), noise[-1].shape[-1]


def adapt(a):
    frozen, trained, adam, side = twins(a)
    # Of which words the direction is, a step does not know.
    clips = [(clip, F.normalize(torch.randn(clip["visual.proj"].shape[1]), dim=0)) for clip in map(load_file, a.clip)]
    draw = compiled(a, networks.Synthesis(a.grouped, a.channels_last))
    see = compiled(a, networks.embed_pictures)
    rows, style = 2 * side.bit_length() - 4, frozen["style.1.weight"].shape[1]
    losses = []

    def picture(weights, z):
        wplus = networks.mapping(weights, z)[:, None].expand(-1, rows, -1)
        return draw(weights, wplus, networks.noise_maps(side, a.batch))

    def step():
        z = torch.randn(a.batch, style)
        with torch.no_grad():
            before = picture(frozen, z)
        after = picture(trained, z)
        loss = 0
        for clip, towards in clips:
            embedding = lambda x: F.normalize(see(clip, networks.clip_input(clip, x)), dim=1)
            with torch.no_grad():
                e0 = embedding(before)
            edit = F.normalize(embedding(after) - e0, dim=1)
            loss = loss + (1 - edit @ towards).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        losses.append(loss.item())

    seconds = clock(a, step)
    return {"seconds": seconds, "losses": losses}


def start(a):
    """What the recipe does before its first step: loading, and the texts of each CLIP."""
    state = [twins(a)]
    tokens = load_file(a.tokens)
    for i, path in enumerate(a.clip):
        clip = load_file(path)
        state.append((clip, direction(clip, tokens[f"tokens.{i}"])))
    return {"ready": time.monotonic()}


def invert(a):
    weights, _, mean = generator_of(a.generator)
    target = load_file(a.inputs)["target"]
    side = target.shape[-1]
    rows = 2 * side.bit_length() - 4
    nothing = [torch.zeros(())] * (rows - 1)
    draw = compiled(a, networks.Synthesis(a.grouped, a.channels_last))
    latent = mean[None].clone().requires_grad_()
    # A tenth of the rate is where the schedule begins.
    adam = torch.optim.Adam([latent], lr=0.1 * 0.1, betas=(0.9, 0.999), fused=True)
    losses = []

    def step():
        apart = draw(weights, latent[:, None].expand(-1, rows, -1), nothing) - target
        loss = apart.square().mean()
        for _ in range(4):
            apart = F.avg_pool2d(apart, 2)
            loss = loss + apart.square().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        losses.append(loss.item())

    seconds = clock(a, step)
    return {"seconds": seconds, "losses": losses}


def agree(a):
    """The largest difference from ours of each tensor, as a share of its standard deviation."""
    ours, inputs = load_file(a.ours), load_file(a.inputs)
    found = {}

    def compare(name, mine):
        theirs = ours[name]
        if mine.shape != theirs.shape:
            sys.exit(f"{name} has shape {list(mine.shape)} in PyTorch and {list(theirs.shape)} in ours")
        apart = ((mine - theirs).abs().max() / mine.std()).item()
        # Not a number is no agreement, and JSON has none.
        found[name] = apart if apart == apart else 1e9

    with torch.inference_mode():
        weights, noise, _ = generator_of(a.generator)
        compare("picture", networks.Synthesis(a.grouped, a.channels_last)(weights, inputs["latent"], noise))
        for i, path in enumerate(a.clip):
            clip = load_file(path)
            compare(f"embedding.{i}", networks.embed_pictures(clip, inputs["clip"]))
            # Ours has embedded some of the texts (TEXT_OF in benches/peers.rs).
            compare(f"texts.{i}", F.normalize(networks.embed_texts(clip, ours[f"tokens.{i}"][::40]), dim=1))
    return {"differences": found}


def main():
    works = {f.__name__: f for f in (gemm, forward, embed, adapt, start, invert, agree)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=works)
    parser.add_argument("--generator")
    parser.add_argument("--clip", action="append", default=[])
    parser.add_argument("--inputs")
    parser.add_argument("--tokens")
    parser.add_argument("--ours")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grouped", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    value = works[a.work](a)
    status = open("/proc/self/status").read()
    value |= {"peak": int(re.search(r"VmHWM:\s*(\d+)", status)[1]) * 1024, "torch": torch.__version__}
    print(json.dumps(value))


if __name__ == "__main__":
    main()
